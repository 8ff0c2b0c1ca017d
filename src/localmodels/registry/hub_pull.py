"""Fetches files of a hub's repository: from the first mirror that has them, shared and resumed as blobs of registries.

The rule: everything is of one commit, the one at which the repository was looked at. What has a digest is verified by
it; what lies in git itself is small and verified by its git id.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from msgspec import Struct, structs

from localmodels.core.catalog import ModelName
from localmodels.registry.addresses import Place
from localmodels.registry.download import Mirror
from localmodels.registry.downloads import Downloads
from localmodels.registry.hub import Hub, Repository
from localmodels.registry.hub_files import Choice, File
from localmodels.registry.outbound import Answer
from localmodels.registry.pace import Pace
from localmodels.registry.perseverance import first_of
from localmodels.registry.progress import INTERVAL, BlobProgress, Board, together


class Found(Struct, frozen=True):
    """A repository, and the places to ask for its files, the one that described it first."""

    name: ModelName
    repository: Repository
    places: tuple[Place, ...]


class HubPuller:
    """Fetches from hubs; whoever wants the same file shares its download."""

    def __init__(
        self,
        hub: Hub,
        downloads: Downloads,
        *,
        pace: Pace | None = None,
        interval: float = INTERVAL,
        chance: random.Random | None = None,
    ) -> None:
        self._hub = hub
        self._downloads = downloads
        self._pace = pace or Pace()
        self._interval = interval
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret

    async def find(self, name: ModelName, places: Sequence[Place]) -> Found:
        """Looks at a repository.

        Raises:
            NotFound: no place has it.
            LocalModelsError: no place describes it.
        """
        repository, number = await first_of(
            places, lambda place: self._hub.repository(place, name), self._pace, self._chance
        )
        return Found(name, repository, (*places[number:], *places[:number]))

    async def completed(self, found: Found, choice: Choice) -> Choice:
        """The choice, with sizes and digests also where the description of the repository left them out.

        Raises:
            LocalModelsError: they cannot be had.
        """
        return structs.replace(
            choice,
            model=tuple([await self._complete(found, file) for file in choice.model]),
            projector=await self._complete(found, choice.projector) if choice.projector else None,
        )

    async def fetch(self, found: Found, files: Sequence[File]) -> AsyncGenerator[BlobProgress, None]:
        """How far each file is, of those that have a digest, until all are in their places.

        Raises:
            LocalModelsError: one cannot be had.
            OSError: one cannot be written.
        """
        board = Board()
        commit = found.repository.commit
        whence = ("hub", commit, found.name.namespace, found.name.name, *(place.origin for place in found.places))
        work = together(
            self._downloads.fetch(
                blob, whence, [self._mirror(found, place, file) for place in found.places], board.tell
            )
            for file in files
            if (blob := file.blob) is not None
        )
        async with aclosing(board.watch(work, self._interval)) as steps:
            async for progress in steps:
                yield progress

    async def small(self, found: Found, file: File, limit: int) -> bytes:
        """All of a file that has no digest.

        Raises:
            Garbled: it is longer than ``limit``.
            LocalModelsError: it cannot be had.
        """
        data, _ = await first_of(
            found.places,
            lambda place: self._hub.small(place, found.name, found.repository.commit, file, limit),
            self._pace,
            self._chance,
        )
        return data

    async def _complete(self, found: Found, file: File) -> File:
        told, _ = await first_of(
            found.places,
            lambda place: self._hub.complete(place, found.name, found.repository.commit, file),
            self._pace,
            self._chance,
        )
        return told

    def _mirror(self, found: Found, place: Place, file: File) -> Mirror:
        def ask(start: int, stop: int) -> AbstractAsyncContextManager[Answer]:
            return self._hub.bytes_of(place, found.name, found.repository.commit, file, start, stop)

        return ask
