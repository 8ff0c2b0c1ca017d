"""Long work that outlives whoever asked for it: begun, queued, watched, cancelled, repeated.

The rule: a task belongs to itself. Its work is a generator of steps, and nothing here knows what it does.
"""
