"""The HTTP shell around the flows."""
