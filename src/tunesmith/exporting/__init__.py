"""Take a model out: adapter, merged weights, GGUF, Ollama; each proved in the engine that will serve it."""
