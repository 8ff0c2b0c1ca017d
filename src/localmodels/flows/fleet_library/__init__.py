"""Libraries changed on any servers at once: on this machine, on others, on all of them (:mod:`.fan_out`).

The rule: every server does it by itself and none waits for another; who fails is told by name.
"""
