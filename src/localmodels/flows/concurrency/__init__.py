"""Work in threads and side by side, so that whoever leaves disturbs nothing.

The rule: who is cancelled leaves when what he has begun has ended.
"""
