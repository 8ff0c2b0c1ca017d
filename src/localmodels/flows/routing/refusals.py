"""What a caller reads when nobody can be asked for a model for now.

The rule: these are our own words, in the name by which the model is listed, and they say when to come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from localmodels.core.errors import MOST_NAME, Unavailable
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.turns import HEALING, SHORTEST_RETRY, gone, words_for


def refusal(hosts: Sequence[Host], name: str, seconds: float) -> Unavailable:
    """That none of these hosts can be asked for a model, and may be in so many seconds."""
    answering = [host for host in hosts if host.may_be_asked]
    if not answering:
        return Unavailable(gone(hosts).message, retry_after=seconds)
    words = f"the model '{name[:MOST_NAME]}' fails whenever it is asked on {words_for(answering)}"
    return Unavailable(words, param="model", retry_after=seconds)


def soonest(copies: Iterable[tuple[Host, str]], fleet: Fleet) -> float:
    """Seconds until the first of these may be tried: hosts, and of each a model as ``same_name`` spells it."""
    waits = [fleet.healing(host, model) for host, model in copies]
    return max(SHORTEST_RETRY, min((HEALING if wait is None else wait for wait in waits), default=HEALING))
