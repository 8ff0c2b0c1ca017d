"""Registries: models fetched from and brought to servers that speak the OCI distribution protocol.

::

    pull ──┐
           ├─▶ download ─▶ parts (pure)      who pulls what; one blob on its way; what to ask for next
    push ──┘       │
                   ▼
             distribution ─▶ auth            the protocol's requests; who we say we are
                   │
                   ▼
               outbound ─▶ core.destinations the only door out; where it leads and where never (pure)

The rule of the whole package: what a registry says is never believed. Where it sends us, how long it lets us wait, how
much it pours out and whose secrets it asks for are all decided here (threats V-18 to V-22). The disk is reached through
the protocols of ``disk`` alone.
"""
