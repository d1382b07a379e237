"""The OpenAI API on this machine: files, fine-tuning jobs, models, answers, batches and evals behind one door."""
