"""How the system stands, for whoever watches it: its condition, and figures of the fleet.

The rule: it is derived from the parts that do the work, and changes none of them.
"""
