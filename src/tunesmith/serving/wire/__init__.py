"""What requests may hold, in OpenAI's shapes; what changes the answer and cannot be honoured is refused by name."""
