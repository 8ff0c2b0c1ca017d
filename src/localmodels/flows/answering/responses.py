"""The Responses API: an answer that may go on from an earlier one, may be kept, and may come about without its caller.

The rule: a response belongs to the caller who asked for it, and to everybody else it is not there. What is kept is kept
before the last event is sent, since a client may go on from it at once; a caller who leaves, or an answer that breaks,
leaves behind what was said, under a status that says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from time import time_ns
from typing import Any, NoReturn, Protocol
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.access import Caller
from localmodels.core.chat import ChatRequest, Chunk, Done, Event
from localmodels.core.errors import (
    Conflict,
    InvalidRequest,
    LocalModelsError,
    NotFound,
    ShuttingDown,
    StreamCut,
    Unsupported,
    unforeseen,
)
from localmodels.core.responses import UNFINISHED, ResponseStore, StoredResponse
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.responses import kept
from localmodels.dialects.responses.answers import ResponseWriter
from localmodels.dialects.responses.replayed import replayed
from localmodels.dialects.responses.requests import Create
from localmodels.dialects.strict_json import encode
from localmodels.flows.answering.background_responses import Job, Memory
from localmodels.flows.visit import Visit

log = logging.getLogger(__name__)

# Bounds of what is kept: one response, and a conversation of many.
MOST_STORED = 8 * 2**20
MOST_CHAIN, MOST_HISTORY = 1_000, 32 * 2**20
# A conversation of this size is put together beside the loop, which others wait for.
LARGE = 256 * 2**10
# Bytes after which it is looked once more whether all of them together are too much, and nanoseconds after which it is
# looked whether some have expired: those are nobody's any more, but lie on the disk until then.
SWEEP_EVERY = 16 * 2**20
SWEEP_AFTER = 600 * 10**9
# Seconds for which the events of a background response can be had once more after its end.
LINGER = 300.0
Stream = AsyncGenerator[list[Event], None]
_LEAVING = ShuttingDown("the server ended before this response did")


class Chats(Protocol):
    """Answers conversations and counts them."""

    def chat(self, request: ChatRequest, visit: Visit) -> Stream: ...
    async def count(self, request: ChatRequest, visit: Visit) -> int: ...


class Making(Struct):
    """A response in the making; ``is_kept`` is whether it will be."""

    create: Create
    request: ChatRequest
    writer: ResponseWriter
    visit: Visit
    input: bytes
    created: int
    is_kept: bool


class ResponseFlow:
    """The flows of the Responses API.

    Args:
        chats: answer.
        store: keeps responses; None keeps none.
        retention: seconds for which they are kept; 0 keeps none.
        clock: nanoseconds since 1970, UTC.
        ended: is shown the visit of every background response, when it has ended.
        linger: seconds for which a background response's events are kept after its end.
    """

    def __init__(
        self,
        chats: Chats,
        store: ResponseStore | None,
        *,
        retention: float = 30 * 86_400.0,
        clock: Callable[[], int] = time_ns,
        ended: Callable[[Visit], None] = lambda _: None,
        linger: float = LINGER,
    ) -> None:
        self._chats = chats
        self._store = store if retention > 0 else None
        self._retention = round(retention * 1e9)
        self._clock = clock
        self._told_of = ended
        self._linger = linger
        self._jobs: dict[str, Job] = {}
        self._memory = Memory()
        self._unswept = 0
        self._since = clock()
        self._sweep_at = self._since + SWEEP_AFTER

    async def whole(self, create: Create, visit: Visit) -> bytes:
        """The response as one object; a background one as it begins.

        Raises:
            LocalModelsError: it could not be made.
        """
        making = await self._made(create, visit)
        if create.echo.background:
            return encode((await self._started(making)).writer.response())
        writer = making.writer
        try:
            async with aclosing(self._chats.chat(making.request, visit)) as stream:
                async for events in stream:
                    writer.answered_by(visit.named(making.request.model))
                    for event in events:
                        if isinstance(event, Done):
                            writer.close(event)
                        else:
                            writer.write(event)
            if writer.status in UNFINISHED:
                _cut()
        except asyncio.CancelledError:  # the client left
            await self._left(making)
            raise
        writer.end(kept=await self._keep(making))
        return encode(writer.response())

    async def stream(self, create: Create, visit: Visit) -> AsyncGenerator[bytes, None]:
        """The response as events, as they come.

        Raises:
            LocalModelsError: before the first event; later ones are told by events.
        """
        making = await self._made(create, visit)
        if create.echo.background:
            async with aclosing((await self._started(making)).events.after(-1)) as frames:
                async for data in frames:
                    yield data
            return
        try:
            async with aclosing(self._written(making)) as frames:
                async for data in frames:
                    yield data
        finally:
            await self._left(making)

    async def count(self, create: Create, visit: Visit) -> int:
        """Tokens of the question."""
        return await self._chats.count(await self._request(create, visit.caller), visit)

    async def get(self, id: str, caller: Caller) -> bytes:  # noqa: A002
        """The response as it is now.

        Raises:
            NotFound: it is not there, or not this caller's.
        """
        job = self._job(id, caller)
        return encode(job.writer.response()) if job else (await self._stored(id, caller)).body

    async def replay(self, id: str, caller: Caller, after: int = -1) -> AsyncGenerator[bytes, None]:  # noqa: A002
        """Its events after this number; those of a background response that goes on follow as they come.

        Raises:
            NotFound: as :meth:`get`.
        """
        job = self._job(id, caller)
        if job is None:
            yield replayed((await self._stored(id, caller)).body, after)
            return
        async with aclosing(job.events.after(after)) as frames:
            async for data in frames:
                yield data

    async def cancel(self, id: str, caller: Caller) -> bytes:  # noqa: A002
        """Breaks a background response off; one that has ended stays as it is.

        Raises:
            NotFound: as :meth:`get`.
            InvalidRequest: it is not a background response.
            Conflict: another gateway answers it.
        """
        if job := self._job(id, caller):
            await job.stop()
            return encode(job.writer.response())
        stored = await self._stored(id, caller)
        if not kept.is_background(stored.body):
            raise InvalidRequest("only a response that was created with background can be cancelled", param="id")
        _require_ended(stored)
        return stored.body

    async def delete(self, id: str, caller: Caller) -> None:  # noqa: A002
        """Takes a response away; one that goes on is broken off before.

        Raises:
            NotFound: as :meth:`get`.
            Conflict: another gateway answers it, and would keep what was taken away here.
        """
        if job := self._job(id, caller):
            await job.stop()
            self._forget(id)
        elif self._store is not None and (stored := await self._store.get(id, caller.id)):
            _require_ended(stored)
        if self._store is None or not await self._store.delete(id, caller.id):
            raise _unknown(id)

    async def items(self, id: str, caller: Caller, after: str, limit: int, order: kept.Order) -> bytes:  # noqa: A002
        """A page of what the caller sent with a response.

        Raises:
            NotFound: as :meth:`get`, or there is no item ``after``.
        """
        return kept.listed((await self._stored(id, caller)).input, after, limit, order)

    async def recover(self) -> int:
        """Ends what an earlier process left in the middle, and clears away what has expired; how many were ended."""
        try:
            left = [one for one in await self._unfinished() if one.created_at < self._since]
            now = self._clock()
            for stored in left:
                body = kept.failed(stored.body, _LEAVING, now // 10**9)
                await self._put(replace(stored, status="failed", completed_at=now, body=body))
        except LocalModelsError as error:
            log.warning("the stored responses cannot be looked through: %s", error)
            return 0
        return len(left)

    async def _unfinished(self) -> tuple[StoredResponse, ...]:
        if self._store is None:
            return ()
        await self._store.sweep()
        return await self._store.unfinished()

    async def close(self) -> None:
        """Breaks off what goes on in the background."""
        await asyncio.gather(*(job.stop(leaving=True) for job in tuple(self._jobs.values())))

    async def _made(self, create: Create, visit: Visit) -> Making:
        is_kept = create.echo.store and self._store is not None
        if create.echo.background and not is_kept:
            raise Unsupported("background needs responses to be kept, and this server keeps none", param="background")
        create = replace(create, echo=replace(create.echo, store=is_kept))
        request = await self._request(create, visit.caller)
        created = self._clock()
        stamp = Stamp(f"resp_{uuid4().hex}", request.model, created, self._clock, visit.id)
        sent = kept.pack(create.items) if is_kept else b""
        return Making(create, request, ResponseWriter(stamp, create), visit, sent, created, is_kept)

    async def _request(self, create: Create, caller: Caller) -> ChatRequest:
        chain = await self._chain(create.previous_id, caller) if create.previous_id else ()
        if create.size + sum(one.size for one in chain) < LARGE:
            return create.after(_history(chain))
        return await asyncio.to_thread(lambda: create.after(_history(chain)))

    async def _chain(self, previous: str, caller: Caller) -> Sequence[StoredResponse]:
        """The conversation so far, oldest first."""
        chain = await self._store.chain(previous, caller.id, MOST_CHAIN) if self._store else ()
        if not chain:
            raise _unknown(previous, "previous_response_id")
        if chain[-1].status in UNFINISHED:
            raise InvalidRequest(f"response '{previous}' has not ended yet", param="previous_response_id")
        if chain[0].previous_id and len(chain) < MOST_CHAIN:
            raise NotFound(
                f"response '{previous}' goes on from '{chain[0].previous_id}', which is no longer kept",
                param="previous_response_id",
            )
        if chain[0].previous_id or sum(one.size for one in chain) > MOST_HISTORY:
            raise InvalidRequest(
                f"a conversation may have {MOST_CHAIN:,} responses and {MOST_HISTORY >> 20} MiB of them",
                param="previous_response_id",
            )
        return chain

    async def _written(self, making: Making) -> AsyncGenerator[bytes, None]:
        """The events of a response, which is kept in whatever way it ends; errors before the first are raised."""
        writer = making.writer
        try:
            async with aclosing(self._chats.chat(making.request, making.visit)) as stream:
                async for events in stream:
                    yield await self._pieces(making, events)
            if writer.status in UNFINISHED:
                _cut()
        except LocalModelsError as error:
            if not writer.begun:
                raise
            making.visit.error = error
            data = writer.fail(error)
            await self._keep(making)
            yield data
        except Exception:  # a defect of ours: told like any other error, before the application cuts the answer
            if writer.begun:
                data = writer.fail(unforeseen())
                await self._keep(making)
                yield data
            raise

    async def _left(self, making: Making) -> None:
        """The client has left; if that was in the middle, what was said is kept."""
        if making.writer.begun and making.writer.status in UNFINISHED:
            making.writer.cancel()
            await self._keep(making)

    async def _pieces(self, making: Making, events: list[Event]) -> bytes:
        """The bytes of events that came together."""
        writer = making.writer
        writer.answered_by(making.visit.named(making.request.model))
        data = b"".join(writer.write(event) for event in events if isinstance(event, Chunk))
        if isinstance(done := events[-1], Done):
            data += writer.close(done)
            data += writer.end(kept=await self._keep(making))
        return data

    async def _keep(self, making: Making) -> bool:
        """Keeps the response as it is now; could it be?"""
        if not making.is_kept:
            return False
        response = making.writer.response()
        final = making.writer.status not in UNFINISHED
        return await self._put(
            StoredResponse(
                id=response.id,
                owner=making.visit.caller.id,
                model=making.request.model,
                status=making.writer.status,
                created_at=making.created,
                expires_at=making.created + self._retention,
                input=making.input,
                body=encode(response),
                previous_id=making.create.previous_id,
                completed_at=self._clock() if final else None,
            )
        )

    async def _put(self, stored: StoredResponse) -> bool:
        """An answer is not lost for want of a place to keep it: that it is not kept stands in it."""
        if self._store is None or stored.size > MOST_STORED:
            log.info("the response %s of %d bytes is too large to be kept", stored.id, stored.size)
            return False
        try:
            await self._store.put(stored)
            self._unswept += stored.size
            if self._unswept > SWEEP_EVERY or stored.created_at >= self._sweep_at:
                self._unswept, self._sweep_at = 0, stored.created_at + SWEEP_AFTER
                await self._store.sweep()
        except LocalModelsError as error:
            log.warning("the response %s could not be kept: %s", stored.id, error)
            return False
        return True

    async def _started(self, making: Making) -> Job:
        """The job that makes a background response."""
        queued = making.writer.begin(queued=True)
        if not await self._keep(making):
            raise Unsupported("this response cannot be kept, which background needs", param="background")
        making.visit = own = making.visit.another()

        async def work(job: Job) -> None:
            job.events.add(queued)
            try:
                async with aclosing(self._written(making)) as frames:
                    async for data in frames:
                        job.events.add(data)
            except asyncio.CancelledError:
                job.events.add(making.writer.fail(_LEAVING) if job.leaving else making.writer.cancel())
                await self._keep(making)

        job = Job(own.caller.id, making.writer, work, lambda job: self._over(job, own), self._memory)
        self._jobs[making.writer.response().id] = job
        return job

    def _over(self, job: Job, visit: Visit) -> None:
        """A job has ended: what it was asked for comes from the store, its events for a while from here."""
        self._told_of(visit)
        response_id = job.writer.response().id
        asyncio.get_running_loop().call_later(self._linger, self._forget, response_id)

    def _forget(self, id: str) -> None:  # noqa: A002
        if job := self._jobs.pop(id, None):
            job.events.drop()

    def _job(self, id: str, caller: Caller) -> Job | None:  # noqa: A002
        job = self._jobs.get(id)
        return job if job and job.owner == caller.id else None

    async def _stored(self, id: str, caller: Caller) -> StoredResponse:  # noqa: A002
        stored = await self._store.get(id, caller.id) if self._store else None
        if stored is None:
            raise _unknown(id)
        return stored


def _history(chain: Sequence[StoredResponse]) -> list[dict[str, Any]]:
    return [item for one in chain for item in kept.history(one.input, one.body)]


def _require_ended(stored: StoredResponse) -> None:
    """Of what goes on nothing is here that could end it."""
    if stored.status in UNFINISHED:
        raise Conflict(f"response '{stored.id}' is {stored.status} at another gateway, or was left by one: ask there")


def _cut() -> NoReturn:
    raise StreamCut("the answer ended before its end was said")


def _unknown(id: str, param: str = "id") -> NotFound:  # noqa: A002
    return NotFound(f"response '{id[:80]}' not found", param=param)
