"""Pulls and pushes, made ready by the first who wants one.

An HTTP client with TLS costs every start half a second and 15 MiB, and most servers never pull while they run. So the
module that needs it is imported here, in a thread, when it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Protocol, Self, cast

from localmodels.config import Config
from localmodels.core.library import Progress, PullRequest, PushRequest
from localmodels.server.late import loaded
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore

Steps = AsyncGenerator[Progress, None]


class Moves(Protocol):
    """Fetches models and sends them."""

    def pull(self, request: PullRequest, /) -> Steps: ...

    def push(self, request: PushRequest, /) -> Steps: ...


Opens = Callable[[], AbstractAsyncContextManager[Moves]]


class Outside:
    """``async with Outside(load) as outside: … outside.pull(request)``.

    Args:
        load: gives the way to open what does the work; called in a thread, once.
    """

    def __init__(self, load: Callable[[], Opens]) -> None:
        self._load = load
        self._opening = asyncio.Lock()
        self._open = AsyncExitStack()
        self._moves: Moves | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()

    async def pull(self, request: PullRequest) -> Steps:
        """As :meth:`localmodels.flows.library.transfers.Transfers.pull`."""
        async with aclosing((await self._ready()).pull(request)) as steps:
            async for step in steps:
                yield step

    async def push(self, request: PushRequest) -> Steps:
        """As :meth:`localmodels.flows.library.transfers.Transfers.push`."""
        async with aclosing((await self._ready()).push(request)) as steps:
            async for step in steps:
                yield step

    async def _ready(self) -> Moves:
        async with self._opening:
            if self._moves is None:
                opens = await asyncio.to_thread(self._load)
                self._moves = await self._open.enter_async_context(opens())
            return self._moves


def outward(config: Config, store: ModelStore, library: Library) -> Callable[[], Opens]:
    """How a server loads its own :class:`Moves`."""

    def load() -> Opens:
        open_transfers = loaded("localmodels.server.outward").open_transfers
        return cast("Opens", lambda: open_transfers(config, store, library))

    return load
