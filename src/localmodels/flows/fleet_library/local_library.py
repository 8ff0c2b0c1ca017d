"""This machine's own library, as one of the places whose libraries are changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from localmodels.core.catalog import Description, Running
from localmodels.core.library import CopyRequest, CreateRequest, DeleteRequest, Progress, PullRequest, PushRequest
from localmodels.flows.answering.chat import Finder
from localmodels.flows.library.keeper import Keeper

Steps = AsyncGenerator[Progress, None]


class Moves(Protocol):
    """Fetches models and sends them."""

    def pull(self, request: PullRequest, /) -> Steps: ...

    def push(self, request: PushRequest, /) -> Steps: ...


class Models(Finder, Protocol):
    """The models of this machine, and what runs."""

    async def describe(self, name: str, *, verbose: bool) -> Description: ...

    def running(self) -> tuple[Running, ...]: ...


class Own:
    """It is.

    Args:
        keeper: changes the library.
        moves: fetches models and sends them.
        models: knows what runs.
    """

    def __init__(self, keeper: Keeper, moves: Moves, models: Models) -> None:
        self._keeper = keeper
        self._moves = moves
        self._models = models

    def pull(self, request: PullRequest) -> Steps:
        """Fetches a model."""
        return self._moves.pull(request)

    def push(self, request: PushRequest) -> Steps:
        """Sends a model."""
        return self._moves.push(request)

    def create(self, request: CreateRequest) -> Steps:
        """Makes a model."""
        return self._keeper.create(request)

    async def copy(self, request: CopyRequest) -> None:
        """Gives a model a second name."""
        await self._keeper.copy(request)

    async def delete(self, request: DeleteRequest) -> None:
        """Takes a name away."""
        await self._keeper.delete(request)

    async def unload(self, model: str) -> None:
        """Takes a model out of memory as soon as it is idle."""
        await (await self._models.find(model)).unload()

    async def running(self) -> Sequence[Running]:
        """What is in memory."""
        return self._models.running()

    async def describe(self, name: str, *, verbose: bool) -> Description:
        """All about a model."""
        return await self._models.describe(name, verbose=verbose)
