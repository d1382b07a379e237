"""Other people's Python functions, run in a process that can do nothing but compute."""
