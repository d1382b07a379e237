"""Check a file of examples, however large: what training would find, and what the curating rules find."""
