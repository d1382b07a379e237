"""Fine-tuning: the language model's adapter and the retriever's encoder."""
