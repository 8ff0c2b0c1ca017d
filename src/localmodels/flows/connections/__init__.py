"""How other servers are reached: the connections, what all requests to them share, and what they met there.

The rule: nothing here knows what a request asks for. Who may be asked once more is said in :mod:`.failover`,
and what a server is called in :mod:`.server_names`.
"""
