"""Our llama.cpp runners: what to start, when, with what, and one loop that does it."""
