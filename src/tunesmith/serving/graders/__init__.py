"""Graders: how good an answer is, as a number, by OpenAI's five kinds and their combination."""
