"""What the system does, free of HTTP."""
