"""Two callers at one place of a model of our own: they take turns, and a full queue makes room for who has less in it.

The real server, the real engine and the built-in model; only the order of what happens counts, no time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.gateway.sides import Side, serving
from tests.proofs.claims import Claim, timed
from tests.proofs.clients import Asking, answered, ask
from tests.proofs.places import key

MORE = 5  # than the model and its queue take: so many may be answered while the others are still asking
SETTINGS = "num_parallel = 1\nmax_queue = {}\n"


async def proof(greedy: int = 40) -> list[Claim]:
    """One caller asks more often than the queue holds, then another asks three times."""
    cores = frozenset(os.sched_getaffinity(0))
    async with serving(cores, SETTINGS.format(greedy - 1)) as side:
        await answered(side, stream=False)  # which loads the model
        flood, other = await key(side, "greedy"), await key(side, "other")
        ended: list[Asking] = []
        first = [await asked(side, flood, ended) for _ in range(greedy + MORE)]
        later = [await asked(side, other, ended) for _ in range(3)]
        await asyncio.gather(*(one.end for one in first + later))
    refused = [one for one in first if one.status == 503]
    good = [one for one in ended if one.status == 200]
    places = [good.index(one) for one in later if one in good]
    done = good.index(later[0]) if places else 0
    return [
        Claim("every request gets an answer", all(one.whole for one in first + later), f"{len(first + later)}"),
        Claim("one who comes into a full queue is answered", len(places) == 3, f"{len(places)} of 3"),
        Claim("as many of the other's give way", len(refused) >= 3, f"{len(refused)} of {len(first)} refused"),
        timed("they take turns from then on", turns(sorted(places)), f"his were answered as numbers {places}"),
        timed("and he does not wait for the flood", done < greedy // 2, f"first answered after {done} of {greedy}"),
        Claim("refusals say when to come back", all(int(one.headers["retry-after"]) >= 1 for one in refused)),
    ]


def turns(places: Sequence[int]) -> bool:
    """Was there at most one of the other caller's between two of these?"""
    return all(after - before <= 2 for before, after in pairwise(places))


async def asked(side: Side, text: str, ended: list[Asking]) -> Asking:
    """Asks, and notes when it ended among the others."""
    one = await ask(side, stream=False, key=text)
    one.end.add_done_callback(lambda _: ended.append(one))
    return one
