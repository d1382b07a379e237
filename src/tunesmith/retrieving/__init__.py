"""Finding the entries that a question may be about."""
