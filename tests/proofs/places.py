"""Our gateway before the benchmark's back end, both in processes of their own, as every proof wants them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

import aiohttp
import msgspec
from benchmarks.gateway import sides
from benchmarks.gateway.cpu import Cores
from benchmarks.gateway.sides import Side
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

Told = TypeVar("Told")


class Counts(Struct, frozen=True):
    """What the back end says of itself: open connections and streams, the most streams at once, all that began."""

    connections: int
    streams: int
    most: int
    begun: int


class Scene(Struct, frozen=True):
    """The two."""

    gateway: Side
    mock: Side

    async def counts(self) -> Counts:
        """Of the back end."""
        return msgspec.json.decode(await fetched(self.mock, "/counts"), type=Counts)

    async def settled(self, holds: Callable[[Counts], bool], within: float = 10.0) -> bool:
        """Does this come to hold at the back end within so many seconds?"""
        return await _comes(self.counts, holds, within)

    async def freed(self, within: float = 10.0) -> bool:
        """Does the gateway come to say, within so many seconds, that none of its requests is at the back end?"""
        return await _comes(self.in_flight, lambda number: number == 0, within)

    async def in_flight(self) -> float:
        """Requests that take a place at the back end, as the gateway's metrics have it.

        Raises:
            KeyError: they do not say.
        """
        page = (await fetched(self.gateway, "/metrics")).decode()
        return {
            sample.labels["server"]: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == "localmodels_server_in_flight"
        }["mock"]


async def _comes(now: Callable[[], Awaitable[Told]], holds: Callable[[Told], bool], within: float) -> bool:
    until = monotonic() + within
    while monotonic() < until:
        if holds(await now()):
            return True
        await asyncio.sleep(0.05)
    return False


@asynccontextmanager
async def scene(
    *,
    pieces: int,
    pause: float,
    uneven: float = 0.0,
    settings: str = "",
    flags: Sequence[str] = (),
    cores: Cores | None = None,
) -> AsyncIterator[Scene]:
    """Starts both.

    Args:
        pieces: of a stream.
        pause: seconds between two of them.
        uneven: by which share of that streams differ.
        settings: further lines of TOML for the gateway's server.
        flags: of the gateway itself.
        cores: for the gateway and for the back end; all for both without them.
    """
    every = frozenset(os.sched_getaffinity(0))
    cores = cores or Cores(every, every)
    async with (
        sides.mock(cores.others, pieces=pieces, pause=pause, uneven=uneven) as mock,
        sides.ours(cores.measured, mock, settings, flags) as gateway,
    ):
        yield Scene(gateway, mock)


async def fetched(side: Side, path: str) -> bytes:
    """What a GET gives."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{side.port}{path}") as response:
        return await response.read()


async def healthy(side: Side) -> float:
    """Seconds that the gateway takes to say that it is well.

    Raises:
        RuntimeError: it says something else.
    """
    start = monotonic()
    told = json.loads(await fetched(side, "/health"))
    if told.get("status") != "healthy":
        raise RuntimeError(f"/health says {told}")
    return monotonic() - start


async def key(side: Side, name: str) -> str:
    """The text of a new key."""
    url = f"http://127.0.0.1:{side.port}/api/keys"
    async with aiohttp.ClientSession() as session, session.post(url, json={"name": name}) as response:
        text: str = (await response.json())["key"]
        return text
