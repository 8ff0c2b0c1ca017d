"""Ten times more than can be answered, from one caller: what is taken is answered in time, the rest is told so at once.

The gateway promises a wait of less than half an answer's length, and refuses at once whoever would wait longer. A
second caller, who asks for less than his half, does not notice the flood but by that wait (F14). Answers are not all
equally long: those that are begin and end together for ever, as no server's do.
"""

from __future__ import annotations

import asyncio
from statistics import fmean
from time import monotonic

from msgspec import Struct, field
from tests.proofs.claims import Claim, share_of, timed
from tests.proofs.clients import Asking, answered, ask, undisturbed
from tests.proofs.places import Scene, healthy, key, scene

PLACES = 16
PIECES, PAUSE, UNEVEN = 25, 0.02, 0.2  # half a second an answer, a fifth more or less
TIMES = 10
MODEST = 0.25  # of what can be answered, asked for by the second caller
SETTINGS = f"max_concurrent = {PLACES}\n"
PROMISED = 0.2  # seconds of waiting
SLOWEST_HEALTH = 0.1
AT_ONCE = 0.1  # seconds until a refusal


class Flood(Struct):
    """Everything that was asked, and how long /health took meanwhile."""

    asked: list[Asking] = field(default_factory=list)
    modest: list[Asking] = field(default_factory=list)
    health: list[float] = field(default_factory=list)


async def proof(seconds: float = 60.0) -> list[Claim]:
    """An open loop: requests come whether or not others were answered."""
    async with scene(
        pieces=PIECES, pause=PAUSE, uneven=UNEVEN, settings=SETTINGS, flags=("--max-wait", f"{PROMISED}s")
    ) as at:
        expected = (await answered(at.mock)).body
        alone = await unloaded(at)
        can = PLACES / alone  # requests a second
        start = monotonic()
        with undisturbed():
            flood = await flooded(at, seconds, can)
        took = monotonic() - start
        most = (await at.counts()).most
        after = await unloaded(at)
    every = flood.asked + flood.modest
    good = [one for one in every if one.status == 200]
    refused = [one for one in every if one.status != 200]
    told = sum(one.status == 503 and int(one.headers.get("retry-after", "0")) >= 1 for one in refused)
    served = sum(one.status == 200 for one in flood.modest)
    slowest = share_of([one.took for one in good], 0.99)
    times = [one.took for one in refused] or [0.0]
    late, latest = share_of(times, 0.99), max(times)
    return [
        Claim("every request gets an answer", all(one.whole for one in every), f"{len(every)}"),
        Claim("those that are taken are answered well", all(one.body == expected for one in good), f"{len(good)}"),
        Claim("the back end never gets more than it was to get", most <= PLACES, f"{most} of {PLACES} places"),
        Claim("the others are told to come back", bool(refused) and told == len(refused), f"{told} of {len(refused)}"),
        # On a busy machine his requests come in heaps, of which the last would wait too long.
        Claim("a modest caller does not starve", 2 * served >= len(flood.modest), f"{served} of {len(flood.modest)}"),
        timed("he gets all that he asks for", served == len(flood.modest), f"{served} of {len(flood.modest)}"),
        timed(
            "no place stands empty", len(good) >= 0.9 * can * took, f"{len(good) / (can * took):.0%} of all there are"
        ),
        timed(
            "99 of 100 take twice as long as alone at most",
            slowest <= 2 * alone,
            f"{slowest:.2f} s, {alone:.2f} s alone",
        ),
        timed(
            "refusals come at once",
            late <= AT_ONCE,
            f"99 of 100 in {1e3 * late:.0f} ms, the last in {1e3 * latest:.0f}",
        ),
        timed(
            "/health answers all the while", max(flood.health) <= SLOWEST_HEALTH, f"{1e3 * max(flood.health):.0f} ms"
        ),
        timed("afterwards all is as before", after <= 1.5 * alone, f"{after:.2f} s"),
    ]


async def unloaded(at: Scene) -> float:
    """Seconds of an answer for which nobody waits, on average."""
    return fmean(one.took for one in await asyncio.gather(*(answered(at.gateway) for _ in range(PLACES))))


async def flooded(at: Scene, seconds: float, can: float) -> Flood:
    """All the requests, answered."""
    flood = Flood()
    greedy, modest = await key(at.gateway, "greedy"), await key(at.gateway, "modest")
    start = monotonic()
    while (now := monotonic() - start) < seconds:
        due = int(now * can * TIMES) - len(flood.asked)
        flood.asked += [await ask(at.gateway, key=greedy) for _ in range(due)]
        due = int(now * can * MODEST) - len(flood.modest)
        flood.modest += [await ask(at.gateway, key=modest) for _ in range(due)]
        if now > len(flood.health):
            flood.health.append(await healthy(at.gateway))
        await asyncio.sleep(0.005)
    await asyncio.gather(*(one.end for one in flood.asked + flood.modest))
    return flood
