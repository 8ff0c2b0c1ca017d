"""Pushes a model: every blob that the registry has not, then the manifest.

The rule: the manifest goes last, and only when each of its blobs was seen to be there or was taken, so a push that is
broken off leaves the registry's old model as it was. An upload that is cut goes on from the byte that the registry says
it has, and from the beginning only when it does not know.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress

from localmodels.core.catalog import Blob, ModelName
from localmodels.core.errors import BackendError, BackendTimeout, LocalModelsError, ModelDamaged, NotFound
from localmodels.registry.addresses import Place, repository
from localmodels.registry.auth import push_scope
from localmodels.registry.disk import Source, Sources
from localmodels.registry.distribution import DOCKER_MANIFEST, Distribution, Upload
from localmodels.registry.outbound import READ_SIZE
from localmodels.registry.pace import Pace
from localmodels.registry.perseverance import persevere
from localmodels.registry.progress import INTERVAL, BlobProgress, Board, State, Tell, together
from localmodels.registry.verdicts import passes

# Blobs that are sent at a time. Chunks of one blob follow each other by the protocol, so this is all that runs at once.
AT_ONCE = 4


class Pusher:
    """Pushes models.

    Args:
        pace: ``part`` is the size of a chunk, which a cut can cost where a registry forgets a chunk's beginning.
    """

    def __init__(
        self,
        registry: Distribution,
        sources: Sources,
        *,
        pace: Pace | None = None,
        interval: float = INTERVAL,
        chance: random.Random | None = None,
    ) -> None:
        self._registry = registry
        self._sources = sources
        self._pace = pace or Pace()
        self._interval = interval
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret

    async def push(
        self,
        name: ModelName,
        place: Place,
        manifest: bytes,
        blobs: Sequence[Blob],
        *,
        media_type: str = DOCKER_MANIFEST,
        mount: ModelName | None = None,
    ) -> AsyncGenerator[BlobProgress, None]:
        """BlobProgress of each blob as it changes; the registry has the model when it ends.

        Args:
            name: under which the registry shall have it.
            place: where the registry is.
            manifest: its bytes, which name ``blobs`` and no others.
            blobs: each with its size.
            media_type: of the manifest.
            mount: a model on the same registry that may have some of the blobs already.

        Raises:
            LocalModelsError: the registry does not take it, or a blob is not here.
            OSError: a blob cannot be read.
        """
        board = Board()
        mounted = repository(mount) if mount is not None and mount.host == name.host else ""
        slots = asyncio.Semaphore(AT_ONCE)
        work = together(
            _Sending(self._registry, place, name, blob, self._pace, self._chance, board.tell, mounted).run(
                self._sources, slots
            )
            for blob in dict.fromkeys(blobs)
        )
        async with aclosing(board.watch(work, self._interval)) as steps:
            async for progress in steps:
                yield progress
        await persevere(
            lambda: self._registry.put_manifest(place, name, manifest, media_type), self._pace, self._chance
        )


class _Sending:
    """One blob on its way out."""

    def __init__(
        self,
        registry: Distribution,
        place: Place,
        name: ModelName,
        blob: Blob,
        pace: Pace,
        chance: random.Random,
        tell: Tell,
        mount: str,
    ) -> None:
        self._registry = registry
        self._place = place
        self._name = name
        self._blob = blob
        self._pace = pace
        self._chance = chance
        self._tell = tell
        self._mount = mount
        self._sent: Upload | None = None
        self._furthest = 0
        self._troubles = 0
        self._trouble = ""

    async def run(self, sources: Sources, slots: asyncio.Semaphore) -> None:
        """Until the registry has it."""
        async with slots:
            self._say("waiting", 0)
            if not await persevere(self._is_there, self._pace, self._chance):
                source = await sources.open(self._blob)
                try:
                    await self._upload(source)
                finally:
                    await source.close()
            self._say("done", self._blob.size)

    async def _is_there(self) -> bool:
        scope = push_scope(repository(self._name))
        return await self._registry.has_blob(self._place, self._name, self._blob, scope=scope)

    async def _upload(self, source: Source) -> None:
        tries = 0
        while True:
            furthest = self._furthest
            try:
                await self._go_on(source)
            except LocalModelsError as error:
                tries = 1 if self._furthest - furthest >= self._pace.floor else tries + 1
                furthest = self._furthest
                # What a registry says of an upload that it has forgotten, or mixed up, is no word about a fresh one.
                forgotten = self._sent is not None and isinstance(error, BackendError | NotFound)
                if not (passes(error) or forgotten) or tries >= self._pace.tries:
                    await self._abandon()
                    raise
                self._note(error.message)
                await asyncio.sleep(self._pace.wait_after(error, tries, self._chance))
                if await self._arrived():
                    return
                await self._find_again()
                if self._furthest - furthest >= self._pace.floor:
                    tries = 0
            else:
                return

    async def _go_on(self, source: Source) -> None:
        """Sends what is still to be sent, a chunk at a time, and closes the upload."""
        if self._sent is None:
            self._sent = await self._registry.begin_upload(self._place, self._name, self._blob, self._mount)
        if self._sent is None:  # mounted
            return
        size = max(self._pace.part, self._sent.least)
        while (at := self._sent.offset) < self._blob.size:
            self._sent = await self._chunk(self._sent, source, min(self._blob.size, at + size))
            self._furthest = max(self._furthest, self._sent.offset)
        await self._registry.end_upload(self._place, self._name, self._sent, self._blob)

    async def _chunk(self, upload: Upload, source: Source, stop: int) -> Upload:
        stall = self._pace.stall
        clock = asyncio.get_running_loop().time
        broken: list[Exception] = []

        async def body() -> AsyncIterator[bytes]:
            at = upload.offset
            try:
                while at < stop:
                    data = await source.read(at, min(READ_SIZE, stop - at))
                    if not data:
                        raise ModelDamaged(f"{self._blob.digest}: shorter than {self._blob.size} bytes")
                    deadline.reschedule(clock() + stall)
                    yield data
                    at += len(data)
                    self._say("moving", at)
            except (OSError, LocalModelsError) as error:
                broken.append(error)  # ours, which the HTTP client would report as the connection's
                raise

        try:
            async with asyncio.timeout(stall) as deadline:
                return await self._registry.send_chunk(self._place, self._name, upload, body, stop - upload.offset)
        except TimeoutError as error:
            raise BackendTimeout("the registry stalled") from error
        except LocalModelsError:
            if broken:
                raise broken[0] from None
            raise

    async def _arrived(self) -> bool:
        """Was only the answer lost that it is complete?"""
        if self._sent is None or self._sent.offset < self._blob.size:
            return False
        with suppress(LocalModelsError):
            return await self._is_there()
        return False

    async def _find_again(self) -> None:
        """The upload as the registry has it, or none, to begin anew."""
        if self._sent is None:
            return
        try:
            found = await self._registry.upload_status(self._place, self._name, self._sent)
        except LocalModelsError:
            await self._abandon()
        else:
            self._sent = found if found.offset <= self._blob.size else None
            self._furthest = max(self._furthest, self._sent.offset if self._sent else 0)

    async def _abandon(self) -> None:
        if self._sent is not None:
            with suppress(LocalModelsError):
                await self._registry.cancel_upload(self._place, self._name, self._sent)
            self._sent = None

    def _note(self, why: str) -> None:
        self._troubles += 1
        self._trouble = why
        self._say("moving", self._furthest)

    def _say(self, state: State, completed: int) -> None:
        self._tell(BlobProgress(self._blob, state, completed, self._troubles, self._trouble))
