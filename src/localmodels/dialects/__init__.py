"""Codecs between values and bytes: no I/O, both roles. ``table`` has those that a server speaks.

Nothing is imported here: the client, which must start fast, takes one dialect and not all of them.
"""
