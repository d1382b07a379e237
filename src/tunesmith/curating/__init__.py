"""Check, deduplicate, split and guard the examples against leaks."""
