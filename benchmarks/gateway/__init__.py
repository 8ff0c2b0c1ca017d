"""What our gateway costs beside others that do the same: a bare relay, nginx and LiteLLM's proxy.

All of them stand before the same back end, one core is theirs alone, and the same load asks them in turns.
"""
