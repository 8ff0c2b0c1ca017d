"""A server that has few places, before two gateways that both have many requests for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

from tests.fleet.doors import Asked, Doors, until, wrong_of
from tests.fleet.hosts import Behind, Entry
from tests.proofs.claims import Claim, timed

PLACES = 6
# Seconds for which two requests must have been there together to count as two at once: the server writes down the end
# of one a moment after the gateway has heard of it.
TOGETHER = 0.03


async def places(pair: Doors, server: Behind, crowd: int) -> list[Claim]:
    """Crowds of both gateways at once, of the one, of the other, and of both again."""
    one, two = pair.gateways
    await server.become("slow")
    made = await pair.register(one, server, max_concurrent=PLACES, max_queue=4 * crowd)
    await until(lambda: pair.all_route(server.name))
    asked: list[Asked] = []
    took = {}
    for what, who in {"both": (one, two), "one": (one,), "two": (two,), "both again": (one, two)}.items():
        begin = monotonic()
        ones = [Asked(len(asked) + number) for number in range(crowd)]
        asked += ones
        await asyncio.gather(*(pair.ask(ask, who[place % len(who)]) for place, ask in enumerate(ones)))
        took[what] = monotonic() - begin
    most, over = at_once([entry for entry in server.entries() if entry.number < len(asked)])
    await server.become("up")
    await pair.remove(one, made)
    await until(pair.all_route)
    wrong = wrong_of(asked)
    slowest = max(ask.ended - ask.at for ask in asked) / 1e9
    figures = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items())
    return [
        Claim("who waits for a place is answered", not wrong, f"{len(asked) - len(wrong)} of {len(asked)} {wrong[:2]}"),
        timed("a server's places are shared", most <= PLACES, f"{most} at once for {PLACES}; more for {over:.2f} s"),
        timed("they are not left empty", True, f"{crowd} of {figures}; the longest {slowest:.1f} s"),
    ]


def at_once(entries: Sequence[Entry]) -> tuple[int, float]:
    """The most requests that were there together, and for how many seconds there were more than there are places."""
    begun: dict[int, int] = {}
    moments: list[tuple[int, int]] = []
    for entry in entries:
        if entry.deed == "begin":
            begun[entry.number] = entry.at
        elif entry.number in begun:
            start, end = begun.pop(entry.number), entry.at - int(TOGETHER * 1e9)
            moments += [(start, 1), (end, -1)] if end > start else []
    most = now = since = 0
    over = 0
    for moment, change in sorted(moments):
        if now > PLACES:
            over += moment - since
        now, since = now + change, moment
        most = max(most, now)
    return most, over / 1e9
