"""Results in files: our own JSON, and the forms of lm-evaluation-harness and inspect_ai, written and read."""
