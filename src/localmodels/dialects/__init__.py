"""Codecs between values and bytes: no I/O, both roles, one table."""
