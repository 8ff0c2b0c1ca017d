"""SIGTERM in the middle of two hundred streams: they end well, nobody new comes in, and the exit status is 0."""

from __future__ import annotations

import asyncio
import os
import signal
from time import monotonic

from benchmarks.gateway.sides import Side
from tests.proofs.claims import Claim
from tests.proofs.clients import answered, arriving, ask
from tests.proofs.places import scene

PAUSE = 0.1
PATIENCE = 25.0  # the server's own is 30 s


async def proof(many: int = 200, stay: float = 6.0) -> list[Claim]:
    """The signal comes when all of them are under way; each takes so many seconds."""
    async with scene(pieces=round(stay / PAUSE), pause=PAUSE) as at:
        expected = (await answered(at.mock)).body
        asked = await arriving(at.gateway, many, many / 200)
        begun = await at.settled(lambda counts: counts.streams >= many)
        os.kill(at.gateway.pid, signal.SIGTERM)
        told = monotonic()
        await asyncio.sleep(0.5)  # it says nothing when it has stopped listening
        refused = await came_in(at.gateway)
        await asyncio.gather(*(one.end for one in asked))
        good = sum(one.whole and one.body == expected for one in asked)
        status = await asyncio.wait_for(at.gateway.process.wait(), PATIENCE)
        took = monotonic() - told
    return [
        Claim(f"{many} streams ran", begun),
        Claim("all of them end well after SIGTERM", good == many, f"{good}"),
        Claim("nobody new comes in meanwhile", not refused),
        Claim(
            "the server ends with its last stream, with status 0", status == 0, f"status {status} after {took:.1f} s"
        ),
    ]


async def came_in(side: Side) -> bool:
    """Is a new request answered well?"""
    try:
        asking = await ask(side)
    except OSError:
        return False
    await asking.end
    return asking.status == 200
