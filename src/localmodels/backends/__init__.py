"""Anything that can answer: the protocol, the HTTP client of other servers, and the scripted fake."""
