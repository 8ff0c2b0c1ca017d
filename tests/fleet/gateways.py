"""Two gateways on one PostgreSQL in front of three servers: what one does the other knows, and one of them may die.

Everything is asked through the gateways' own API, by a client that knows both (:mod:`tests.fleet.doors`). What the
servers did is in their books: each request has a number, and each server writes down which ones it began and ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct
from tests.fleet import news, outages, shared
from tests.fleet.doors import doors
from tests.fleet.hosts import behind
from tests.fleet.outages import Outage
from tests.postgres import Postgres, running
from tests.proofs.claims import Claim

NAMES = ("a", "b", "c")


class Size(Struct, frozen=True):
    """How long the run is.

    Attributes:
        rounds: of changes that are watched, each way.
        registrations: at once, of each gateway.
        crowd: requests at once for a server that has few places.
        load: seconds of load before and after something goes away.
        away: seconds for which the database is gone.
        hang: the same for which it says nothing and closes no connection; 0 leaves that out.
        kills: of gateways.
        ends: of gateways in order.
    """

    rounds: int = 20
    registrations: int = 50
    crowd: int = 150
    load: float = 10.0
    away: float = 8.0
    hang: float = 12.0
    kills: int = 6
    ends: int = 2


LONG = Size()
SHORT = Size(rounds=2, registrations=12, crowd=30, load=2.0, away=2.0, hang=0.0, kills=1, ends=0)


async def proof(size: Size = LONG) -> list[Claim]:
    """All of it, with a database of its own."""
    with ExitStack() as stack:
        postgres = await asyncio.to_thread(stack.enter_context, running())  # it has loops of its own
        folder = stack.enter_context(TemporaryDirectory(prefix="gateways-"))
        try:
            return [claim async for claim in claims(Path(folder), postgres, size)]
        finally:
            await asyncio.to_thread(stack.close)


async def claims(folder: Path, postgres: Postgres, size: Size) -> AsyncGenerator[Claim, None]:
    """One scene after the other, before the same gateways."""
    async with behind(folder, *NAMES) as servers, doors(folder, postgres) as pair:
        yield await news.of_servers(pair, servers[0], size.rounds)
        yield await news.of_keys(pair, size.rounds)
        yield await news.of_many(pair, size.registrations)
        for claim in await shared.places(pair, servers[0], size.crowd):
            yield claim
        ends, hangs = Outage("is away", size.load, size.away), Outage("hangs", size.load, size.hang)
        for claim in await outages.of_the_database(pair, servers, postgres.stop, postgres.start, ends):
            yield claim
        if size.hang:
            for claim in await outages.of_the_database(pair, servers, postgres.freeze, postgres.thaw, hangs):
                yield claim
        for number in range(size.kills + size.ends):
            orderly = number >= size.kills
            for claim in await outages.of_a_gateway(pair, servers, number, load=size.load, orderly=orderly):
                yield claim
