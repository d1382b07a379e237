"""Files of other formats as Markdown: PDF, Office, web pages, books."""
