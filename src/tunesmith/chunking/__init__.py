"""Cut documents into chunks and gather the chunks into topics."""
