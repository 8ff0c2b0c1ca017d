"""The HTTP edge: connections of our own, from a client's bytes to an ASGI application and back (docs/design.md)."""
