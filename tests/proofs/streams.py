"""A thousand streams at once: none is lost, and every byte is the back end's (F8).

The first byte comes in time, no pause within a stream becomes long, and a stream costs little memory.
"""

from __future__ import annotations

import asyncio

import psutil
from tests.proofs.claims import Claim, share_of, timed
from tests.proofs.clients import answered, arriving, undisturbed
from tests.proofs.places import Counts, scene

PAUSE = 0.2
LONGEST_FIRST = 0.05  # seconds that the gateway may add, for 99 of 100
LONGEST_PAUSE = 0.25  # seconds that it may add to any pause within a stream
MOST_EACH = 100_000  # bytes of its memory


async def proof(many: int = 1000, stay: float = 5.0) -> list[Claim]:
    """Streams that arrive over a few seconds and all run beside each other for so many more."""
    arrival = many / 200  # seconds
    pieces = round((arrival + stay) / PAUSE)
    async with scene(pieces=pieces, pause=PAUSE) as at:
        expected = (await answered(at.mock)).body
        await answered(at.gateway)  # which loads what the first stream alone needs
        gateway = psutil.Process(at.gateway.pid)
        with undisturbed():
            direct = await arriving(at.mock, many, arrival)
            await asyncio.gather(*(one.end for one in direct))
            before, memory = await at.counts(), gateway.memory_info().rss
            ours = await arriving(at.gateway, many, arrival)
            full = await at.settled(lambda counts: counts.streams >= many, within=stay)
            grown = gateway.memory_info().rss - memory
            await asyncio.gather(*(one.end for one in ours))
        after: Counts = await at.counts()
        idle = await at.settled(lambda counts: counts.streams == 0)
    added = share_of([one.first for one in ours], 0.99) - share_of([one.first for one in direct], 0.99)
    # Not against the longest of the others': whatever held them up once would be forgiven here.
    pause, without = (max(one.longest for one in some) - PAUSE for some in (ours, direct))
    good = sum(one.status == 200 and one.whole for one in ours)
    same = sum(one.body == expected for one in ours)
    return [
        Claim(f"{many} streams at once end well", good == many, f"{good}, {after.most} at once at the back end"),
        Claim("they all ran beside each other", full and after.most >= many, f"{after.most}"),
        Claim("every byte is the back end's", same == many, f"{same} of {len(expected)} bytes each"),
        Claim(
            "one request each went to the back end", after.begun - before.begun == many, f"{after.begun - before.begun}"
        ),
        Claim("nothing is left open there", idle),
        Claim("each costs little memory", grown <= many * MOST_EACH, f"{grown / many / 1000:.1f} KB, all held"),
        timed("99 of 100 wait for the first byte hardly longer", added <= LONGEST_FIRST, f"{1e3 * added:.1f} ms"),
        timed(
            "no pause within a stream is much longer than the back end's",
            pause <= LONGEST_PAUSE,
            f"{1e3 * pause:.1f} ms, {1e3 * without:.1f} ms without the gateway",
        ),
    ]
