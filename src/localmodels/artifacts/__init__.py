"""The files that a model arrives in."""
