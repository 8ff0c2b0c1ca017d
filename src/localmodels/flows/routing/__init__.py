"""From a name to the host that answers: what a name means, which host is asked, and how the answer comes back.

The rule: another host is asked only before the first of an answer has come. Which host is best is decided
without effects in :mod:`localmodels.fleet.routing`; here it is asked.
"""
