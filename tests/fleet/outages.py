"""What goes away under load: the database, and one of the gateways."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic, time_ns

from msgspec import Struct
from tests.fleet.doors import Asked, Doors, Gateway, until, wrong_of
from tests.fleet.hosts import Behind
from tests.proofs.claims import Claim, timed

RATE = 40.0  # requests a second
# Numbers of the requests of each scene.
OF_THE_DATABASE, OF_A_GATEWAY = 100_000, 200_000
SOON = 5.0  # seconds until all is as before, when the database is there again
SURVIVES = 15.0  # seconds within which the survivor reconciles


class Outage(Struct, frozen=True):
    """How the database goes away, with so many seconds of load before and after, and for how many it is gone."""

    what: str
    load: float
    away: float


@asynccontextmanager
async def loaded(pair: Doors, asked: list[Asked], first: int) -> AsyncIterator[None]:
    """Under load for as long as the context lasts; left when the last request is over."""
    over = asyncio.Event()
    load = asyncio.create_task(pair.load(asked, first, RATE, over))
    try:
        yield
    finally:
        over.set()
        await load


async def of_the_database(
    pair: Doors, servers: Sequence[Behind], leaves: Callable[[], None], returns: Callable[[], None], size: Outage
) -> list[Claim]:
    """It goes away in this way, and comes back."""
    one, two = pair.gateways
    ids = [await pair.register(one, server) for server in servers[:2]]
    await until(lambda: pair.all_route("a", "b"))
    asked: list[Asked] = []
    async with loaded(pair, asked, OF_THE_DATABASE):
        await asyncio.sleep(size.load)
        await asyncio.to_thread(leaves)
        gone = monotonic()
        try:
            refused = [await refusal(pair, gateway) for gateway in pair.gateways]
            slowest = monotonic() - gone
            await asyncio.sleep(max(0.0, size.away - slowest))
        finally:
            await asyncio.to_thread(returns)
        back = monotonic()
        await until(lambda: changes(pair, one, ids[0]))
        await until(lambda: changes(pair, two, ids[0]))
        again = monotonic() - back
        await asyncio.sleep(size.load)
    await pair.remove(one, *ids)
    await until(pair.all_route)
    wrong = wrong_of(asked)
    good = len(asked) - len(wrong)
    clear = all(status == 503 and int(after) >= 1 and "database" in words for status, after, words in refused)
    return [
        Claim(f"while the database {size.what} answers go on", not wrong, f"{good} of {len(asked)} {wrong[:2]}"),
        Claim(f"while it {size.what} a change is refused in words", clear, f"within {slowest:.2f} s: {refused[0]}"),
        timed("when it is there all is as before, without a restart", again <= SOON, f"within {again:.2f} s"),
    ]


async def refusal(pair: Doors, gateway: Gateway) -> tuple[int, str, str]:
    """What a change meets."""
    answer = await pair.call(gateway, "POST", "/api/servers/", name="z", url="http://127.0.0.7:1")
    return answer.status_code, answer.headers.get("retry-after", "0"), answer.text


async def changes(pair: Doors, gateway: Gateway, server_id: str) -> bool:
    """Can something be changed here, and does the other one know of it?"""
    priority = time_ns() % 1_000
    path = f"/api/servers/{server_id}"
    if not (await pair.call(gateway, "PUT", path, priority=priority)).is_success:
        return False

    async def known() -> bool:
        return bool((await pair.servers(pair.other(gateway)))[server_id]["priority"] == priority)

    await until(known)
    return True


async def of_a_gateway(
    pair: Doors, servers: Sequence[Behind], number: int, *, load: float, orderly: bool = False
) -> list[Claim]:
    """One of them is killed in the middle of its answers, or ends in order, and is begun again later.

    Args:
        pair: both.
        servers: behind them.
        number: of the time; each time it is the one that it was not before.
        load: seconds of load before and after.
        orderly: may it finish the answers that it has begun?
    """
    dies = pair.gateways[number % 2]
    lives = pair.other(dies)
    for server in servers:
        await server.become("slow")
    ids = [await pair.register(dies, server) for server in servers[:2]]
    await until(lambda: pair.all_route("a", "b"))
    await servers[2].become("refuse")
    late = await pair.register(dies, servers[2])
    asked: list[Asked] = []
    async with loaded(pair, asked, (number + 1) * OF_A_GATEWAY):
        await asyncio.sleep(load)
        if orderly:
            await dies.end()
        else:
            await dies.kill()
        killed, begin = time_ns(), monotonic()
        await servers[2].become("up")

        async def found() -> bool:
            return bool((await pair.called(lives, "GET", f"/api/servers/{late}/models"))["models"])

        await until(found)
        reconciled = monotonic() - begin
        await asyncio.sleep(load)
        await dies.start()
        returned = time_ns()
        await until(lambda: pair.all_route("a", "b", "c"))
        await asyncio.sleep(load)
    lists = [await pair.listed(gateway) for gateway in pair.gateways]
    await pair.remove(lives, *ids, late)
    begun = Counter(entry.number for server in servers for entry in server.entries() if entry.deed == "begin")
    after = [one for one in asked if one.at > returned and one.first is dies]
    return [
        *answered(asked, dies, 0 if orderly else killed, begun),
        timed("the survivor reconciles", reconciled <= SURVIVES, f"after {reconciled:.1f} s"),
        Claim(
            "the one that was gone takes part again",
            bool(after) and all(one.tries == 1 for one in after) and lists[0] == lists[1],
            f"{len(after)} answers, and both show the same",
        ),
    ]


def answered(asked: Sequence[Asked], dies: Gateway, killed: int, begun: Mapping[int, int]) -> list[Claim]:
    """What became of the requests.

    Args:
        asked: all.
        dies: the gateway that was killed.
        killed: when, in nanoseconds since 1970; 0 where it was allowed to finish its answers.
        begun: how often the servers began to answer each, by its number.
    """
    cut = [one for one in asked if one.wrong and one.bytes and one.first is dies and one.at < killed]
    lost = [one for one in asked if one.wrong and one not in cut]
    moved = [one for one in asked if one.tries > 1]
    twice = [one for one in asked if begun[one.number] == 2]
    wrong = [one for one in asked if begun[one.number] > 2 or (begun[one.number] == 2 and one not in moved)]
    return [
        Claim(
            "no request is lost of which no byte was sent" if killed else "where one ends in order no request is lost",
            not lost,
            f"{len(lost)} of {len(asked)}, {len(cut)} in the middle of their answers {wrong_of(lost)[:2]}",
        ),
        Claim(
            "nothing is generated a third time, nor twice but where the first gateway died with it",
            not wrong,
            f"{len(moved)} went to the other one, of which {len(twice)} were begun twice",
        ),
    ]
