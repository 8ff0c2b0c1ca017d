"""Who may ask, how much, and what was used: keys, limits by the minute, and the ledger.

The rule: a key's text is kept nowhere, and a request is charged once, when it has ended.
"""
