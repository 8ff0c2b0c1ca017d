"""How other servers are reached: the connections, what all requests to them share, and what they met there.

The rule: nothing here chooses who answers a request. Who may be asked once more is said in :mod:`.failover`, which
server a name means, and what is said where none does, in :mod:`.server_names`.
"""
