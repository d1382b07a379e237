"""Review examples: what people decide about them, kept through every regeneration."""
