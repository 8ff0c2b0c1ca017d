"""A thousand clients that leave in the middle: the back end's streams end with them, and nothing stays behind (F12).

The back end has a place for each of them and no more, and a place that stayed taken would show in the metrics.
"""

from __future__ import annotations

import asyncio
from time import monotonic

import psutil
from tests.proofs.claims import Claim, timed
from tests.proofs.clients import answered, arriving
from tests.proofs.places import healthy, scene

PIECES, PAUSE = 3000, 0.1  # five minutes: nobody stays to the end
SOON = 1.0  # seconds after which nothing of the departed may go on


async def proof(many: int = 1000) -> list[Claim]:
    """Some leave before the first byte, some after it, some in the middle of a frame."""
    async with scene(pieces=PIECES, pause=PAUSE, settings=f"max_concurrent = {many}\n") as at:
        process = psutil.Process(at.gateway.pid)
        await healthy(at.gateway)
        files = process.num_fds()
        asked = await arriving(at.gateway, many, many / 200)
        full = await at.settled(lambda counts: counts.streams >= many)
        taken = await at.in_flight()
        for number, one in enumerate(asked):
            one.leave(after=len(one.body) + (0, 1, 100, 1000)[number % 4])
        await asyncio.gather(*(one.end for one in asked))
        left = monotonic()
        ended = await at.settled(lambda counts: counts.streams == 0)
        took = monotonic() - left
        freed = await at.freed()
        places_took = monotonic() - left
        early = await arriving(at.gateway, many // 10, 0.2)
        for one in early:
            one.leave()
        await asyncio.gather(*(one.end for one in early))
        ended = ended and await at.settled(lambda counts: counts.streams == 0)
        freed = freed and await at.freed()
        kept = (await at.counts()).connections
        shown = await answered(at.gateway, stream=False)
        left_open = process.num_fds() - files
        await healthy(at.gateway)
    return [
        Claim(f"{many} streams ran", full),
        Claim("the back end's streams end with their clients", ended, f"after {took:.2f} s"),
        timed("at once", took <= SOON, f"{took:.2f} s"),
        Claim("each of them had a place at the gateway", taken == many, f"{taken:.0f}"),
        Claim("their places are free", freed, f"after {places_took:.2f} s"),
        timed("these too at once", places_took <= SOON, f"{places_took:.2f} s"),
        Claim("the next request is answered", shown.status == 200 and shown.whole, str(shown.status)),
        Claim("no files stay open", left_open <= kept + 8, f"{left_open} more than before, {kept} connections kept"),
    ]
