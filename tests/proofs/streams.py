"""A thousand streams at once: none is lost, every byte is the back end's, and the first comes in time (F14)."""

from __future__ import annotations

import asyncio

from tests.proofs.claims import Claim, share_of, timed
from tests.proofs.clients import answered, arriving
from tests.proofs.places import Counts, scene

PAUSE = 0.2
LONGEST_FIRST = 0.05  # seconds that the gateway may add, for 99 of 100


async def proof(many: int = 1000, stay: float = 5.0) -> list[Claim]:
    """Streams that arrive over a few seconds and all run beside each other for so many more."""
    arrival = many / 200  # seconds
    pieces = round((arrival + stay) / PAUSE)
    async with scene(pieces=pieces, pause=PAUSE) as at:
        expected = (await answered(at.mock)).body
        direct = await arriving(at.mock, many, arrival)
        await asyncio.gather(*(one.end for one in direct))
        before = await at.counts()
        ours = await arriving(at.gateway, many, arrival)
        await asyncio.gather(*(one.end for one in ours))
        after: Counts = await at.counts()
        idle = await at.settled(lambda counts: counts.streams == 0)
    added = share_of([one.first for one in ours], 0.99) - share_of([one.first for one in direct], 0.99)
    good = sum(one.status == 200 and one.whole for one in ours)
    same = sum(one.body == expected for one in ours)
    return [
        Claim(f"{many} streams at once end well", good == many, f"{good}, {after.most} at once at the back end"),
        Claim("they all ran beside each other", after.most >= many, f"{after.most}"),
        Claim("every byte is the back end's", same == many, f"{same} of {len(expected)} bytes each"),
        Claim(
            "one request each went to the back end", after.begun - before.begun == many, f"{after.begun - before.begun}"
        ),
        Claim("nothing is left open there", idle),
        timed("99 of 100 wait for the first byte hardly longer", added <= LONGEST_FIRST, f"{1e3 * added:.1f} ms"),
    ]
