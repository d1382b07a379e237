"""Tunesmith: data, fine-tuning, and the proof of what they were worth."""
