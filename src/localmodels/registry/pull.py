"""Pulls a model: its manifest, then all its blobs at once, each from the first mirror that has it.

The rule: a pull ends with a manifest whose every blob is in its place and has its digest, or with an error; the
manifest is given out last, so that whoever writes it down writes something true. A pull that is broken off at any
moment, and begun again, goes on where it was.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from msgspec import Struct

from localmodels.core.catalog import Blob, ModelName
from localmodels.core.errors import Garbled, ModelNotFound, NotFound
from localmodels.registry.addresses import Place
from localmodels.registry.distribution import Distribution, Fetched
from localmodels.registry.download import Mirror
from localmodels.registry.downloads import Downloads
from localmodels.registry.outbound import Answer
from localmodels.registry.pace import Pace
from localmodels.registry.perseverance import first_of
from localmodels.registry.progress import INTERVAL, BlobProgress, Board, Tell, together

# 16 TiB: ext4 has no larger files, and no model comes near.
MAX_BLOB = 2**44

ReadManifest = Callable[[bytes], Iterable[Blob]]


class Pulled(Struct, frozen=True):
    """Every blob is in its place; this manifest may be written down."""

    manifest: Fetched


class Puller:
    """Pulls models.

    Args:
        read: the blobs that a manifest names; raises a ``LocalModelsError`` for one that has no single meaning.
    """

    def __init__(
        self,
        registry: Distribution,
        downloads: Downloads,
        read: ReadManifest,
        *,
        pace: Pace | None = None,
        interval: float = INTERVAL,
        chance: random.Random | None = None,
    ) -> None:
        self._registry = registry
        self._downloads = downloads
        self._read = read
        self._pace = pace or Pace()
        self._interval = interval
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret

    async def pull(
        self, name: ModelName, places: Sequence[Place], known: tuple[Fetched, int] | None = None
    ) -> AsyncGenerator[BlobProgress | Pulled, None]:
        """BlobProgress of each blob as it changes, and :class:`Pulled` at the end.

        Args:
            name: of the model.
            places: where it may be, in order.
            known: what :meth:`manifest` gave; the name may mean another model by now, and this one is wanted.

        Raises:
            ModelNotFound: no place has it.
            LocalModelsError: it cannot be had.
            OSError: it cannot be written.
        """
        manifest, found = known or await self.manifest(name, places)
        # The place that had the manifest is asked for the blobs first, and those behind it after it.
        order = [*places[found:], *places[:found]]
        blobs = tuple(dict.fromkeys(self._read(manifest.data)))
        if any(blob.size > MAX_BLOB for blob in blobs):
            raise Garbled("the registry's manifest names a blob that is larger than any file can be")
        board = Board()
        async with aclosing(board.watch(self._fetch_all(name, order, blobs, board.tell), self._interval)) as steps:
            async for progress in steps:
                yield progress
        yield Pulled(manifest)

    async def manifest(self, name: ModelName, places: Sequence[Place]) -> tuple[Fetched, int]:
        """The manifest, and the number of the place that had it.

        Raises:
            ModelNotFound: no place has it.
            LocalModelsError: no place gives it; the error is the first place's.
        """
        return await first_of(places, lambda place: self._manifest(name, place), self._pace, self._chance)

    async def _manifest(self, name: ModelName, place: Place) -> Fetched:
        try:
            return await self._registry.manifest(place, name)
        except NotFound:
            raise ModelNotFound(str(name)) from None

    async def _fetch_all(self, name: ModelName, places: Sequence[Place], blobs: Sequence[Blob], tell: Tell) -> None:
        whence = (name.namespace, name.name, *(place.origin for place in places))
        await together(
            self._downloads.fetch(blob, whence, [mirror(self._registry, place, name, blob) for place in places], tell)
            for blob in blobs
        )


def mirror(registry: Distribution, place: Place, name: ModelName, blob: Blob) -> Mirror:
    """How a range of this blob is asked for at this place."""

    def ask(start: int, stop: int) -> AbstractAsyncContextManager[Answer]:
        return registry.blob(place, name, blob, start, stop)

    return ask
