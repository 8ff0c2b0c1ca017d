"""Makes LocalModels' built-in model from nothing: writes its text, trains it, exports one GGUF, measures it."""
