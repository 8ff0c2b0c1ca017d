"""What clients send and get, kept as it was for whoever looks for a fault; off until the owner turns it on.

The rule: it is opt-in, it ends by itself, and it changes nothing. What is kept has a time and a quota, headers that may
carry keys are never a part of it, and nobody waits for the disk: what cannot be kept in time is lost, counted and told.
While it is off, a request meets one question.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from threading import Thread
from time import monotonic_ns, time_ns
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from msgspec import Struct
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localmodels.core.errors import LocalModelsError, unforeseen
from localmodels.core.quantity import write_duration, write_size
from localmodels.flows.metric import Reading
from localmodels.flows.visit import Visit
from localmodels.server.app import dialect_of
from localmodels.server.edge.seam import EDGE, edge_of
from localmodels.server.tape import Half, Memory, Tape, TapedEdge
from localmodels.server.wire import VISIT

log = logging.getLogger(__name__)

MOST_WAITING = 256  # requests that are to be written
LOOK = 60.0  # seconds
LOOKS = 10  # times at least does somebody look while a request is kept, but for one that is kept for seconds
SHORTEST = 0.5  # seconds between two looks
PARTING = 5.0  # seconds that the disk has for the rest when the server ends
SECOND = 1e9  # nanoseconds

# Of a request's head what says how it is meant to be read, and what clients say of themselves: a list of what is kept,
# since nobody can list all headers that carry secrets.
_KEPT = re.compile(
    rb"accept|accept-encoding|content-encoding|content-length|content-type|expect|host|origin|traceparent|user-agent"
    rb"|x-request-id|anthropic-(?:beta|version)|x-localmodels-(?:once|session|via)"
    rb"|x-stainless-(?:arch|async|helper-method|lang|os|package-version|read-timeout|retry-count|runtime"
    rb"|runtime-version|timeout)"
)

NameOf = Callable[[int, str], str]


class Files(Protocol):
    """Where it is kept."""

    @property
    def held(self) -> int: ...

    def keep(self, name: str, data: bytes, quota: int) -> None: ...

    def expire(self, age: float, quota: int) -> None: ...


class Captured(Struct, frozen=True, omit_defaults=True):
    """One request and what was answered.

    Attributes:
        at: when it was asked, UTC.
        ms: until the answer ended, milliseconds.
        path: without its query.
        key: id of the caller's key, or ``local``.
        status: 0 where the client had left before it was told anything.
        error: its code.
    """

    id: str
    at: str
    ms: float
    method: str
    path: str
    key: str
    request: Half
    status: int
    answer: Half
    model: str = ""
    server: str = ""
    error: str = ""


class _Taken(Struct, frozen=True):
    """A request that is over and not written yet."""

    asked: int
    ended: int
    ms: float
    method: str
    path: str
    visit: Visit
    request: Tape
    answer: Tape

    def captured(self) -> Captured:
        visit, error = self.visit, self.visit.error
        # What the edge has told its client, as it alone does when it ends a request, is not on the tape.
        told = dialect_of(self.path).status(error) if error else 0
        return Captured(
            id=visit.id,
            at=datetime.fromtimestamp(self.asked / SECOND, UTC).isoformat(timespec="milliseconds"),
            ms=self.ms,
            method=self.method,
            path=self.path,
            key=visit.caller.id,
            request=self.request.half(),
            status=self.answer.status or told,
            answer=self.answer.half(),
            model=visit.label,
            server=visit.server if visit.model else "",
            error=error.code if error else "",
        )

    def free(self) -> None:
        self.request.free()
        self.answer.free()


class Capture:
    """Keeps what asks a model, of callers that are known. Open it, and wrap the application by :meth:`around`.

    Args:
        files: where to.
        name_of: the name of a file, from nanoseconds since 1970 and the request's id.
        where: that place, for people.
        clock: nanoseconds since 1970.
        since: nanoseconds on the clock of visits.
        memory: for what is not written yet.
        look: seconds between two looks for what has been kept long enough, at most.
    """

    def __init__(
        self,
        files: Files,
        name_of: NameOf,
        where: str,
        clock: Callable[[], int] = time_ns,
        since: Callable[[], int] = monotonic_ns,
        memory: Memory | None = None,
        look: float = LOOK,
    ) -> None:
        self._files = files
        self._name_of = name_of
        self._where = where
        self._clock = clock
        self._since = since
        self._memory = memory or Memory()
        self._look = look
        self._age = 0.0
        self._quota = 0
        self._taken: list[_Taken] = []
        self._news = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._next_look = 0.0
        self._leaving = self._failing = self._stuck = False
        self._kept = self._lost = 0

    # Who turns it on and off.

    def adopt(self, age: float, quota: int) -> None:
        """From now on each is kept for ``age`` seconds, all in ``quota`` bytes. 0 keeps none, and removes all."""
        if (age, quota) != (self._age, self._quota) and age:
            log.warning(
                "what is asked and answered is kept in %s, prompts and all, for %s and up to %s; `capture` at 0, set "
                "where it was turned on, ends that and removes it",
                self._where,
                write_duration(age),
                write_size(quota),
            )
        self._age, self._quota = age, quota
        self._next_look = 0.0
        self._news.set()

    async def __aenter__(self) -> Self:
        self._leaving = False
        self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Writes the rest, unless the disk hangs."""
        self._leaving = True
        self._news.set()
        if self._writing is not None:
            await asyncio.wait((self._writing,), timeout=PARTING)
            if not self._writing.done():
                self._writing.cancel()
                log.warning("%s does not take what was asked and answered last; it is lost", self._where)

    def readings(self) -> list[Reading]:
        """How much there is, and what was lost."""
        return [
            Reading("localmodels_captured_bytes", "Requests and answers that are kept as files.", self._files.held),
            Reading("localmodels_captures", "Requests that were kept with their answers.", self._kept, counts=True),
            Reading("localmodels_captures_lost", "Requests that could not be kept.", self._lost, counts=True),
        ]

    # What passes by.

    def around(self, application: ASGIApp) -> ASGIApp:
        """The same application, whose requests and answers are kept while that is wanted."""

        def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if self._age and scope["type"] == "http":
                return self._taped(application, scope, receive, send)
            return application(scope, receive, send)

        return answer

    async def _taped(self, application: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._clock()
        request, answer = Tape(self._memory), Tape(self._memory)
        request.begin(0, [(name, value) for name, value in scope["headers"] if _KEPT.fullmatch(name)])
        edge = edge_of(scope)
        if edge is not None:
            scope["extensions"][EDGE] = TapedEdge(edge, answer)

        async def hearing() -> Message:
            message = await receive()
            if message["type"] == "http.request" and _wanted(scope):
                request.add(message.get("body", b""), last=not message.get("more_body"))
            return message

        async def saying(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.begin(message["status"], message.get("headers", ()))
            elif _wanted(scope):
                answer.add(message.get("body", b""), last=not message.get("more_body"))
            await send(message)

        try:
            await application(scope, hearing, saying)
        finally:
            self._take(scope, asked, request, answer)

    def _take(self, scope: Scope, asked: int, request: Tape, answer: Tape) -> None:
        """It is over."""
        visit = _wanted(scope)
        if visit is None:
            return
        ms = round((self._since() - visit.started) / 1e6, 2)
        taken = _Taken(asked, self._clock(), ms, scope["method"], scope["path"], visit, request, answer)
        if len(self._taken) < MOST_WAITING:
            self._taken.append(taken)
            self._news.set()
        else:
            taken.free()
            self._lost += 1

    # What is written.

    async def _write(self) -> None:
        while not self._leaving:
            self._news.clear()
            await self._flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause(self._age, self._look) if self._age or self._stuck else None):
                    await self._news.wait()
        await self._flush()

    async def _flush(self) -> None:
        taken, self._taken = self._taken, []
        now = asyncio.get_running_loop().time()
        looks = now >= self._next_look
        if looks:
            self._next_look = now + pause(self._age, self._look)
        await apart(partial(self._put, taken if self._age else [], self._age, self._quota, looks=looks))
        for one in taken:
            one.free()

    def _put(self, taken: list[_Taken], age: float, quota: int, *, looks: bool) -> None:
        for one in taken:
            failure = _failure(self._keep, one, quota)
            if failure is None:
                self._kept += 1
            else:
                self._lost += 1
                if not self._failing:  # once, and again when it has worked meanwhile
                    log.warning("what is asked and answered cannot be kept: %s", failure)
            self._failing = failure is not None
        if looks:
            failure = _failure(self._files.expire, age, quota)
            if failure is not None and not self._stuck:
                log.warning("what was asked and answered cannot be removed from %s: %s", self._where, failure)
            self._stuck = failure is not None

    def _keep(self, one: _Taken, quota: int) -> None:
        self._files.keep(self._name_of(one.ended, one.visit.id), msgspec.json.encode(one.captured()), quota)


def pause(age: float, most: float = LOOK) -> float:
    """Seconds between two looks for what is older than ``age``: often enough, and never without an end."""
    return min(most, max(SHORTEST, age / LOOKS)) if age else most


def _wanted(scope: Scope) -> Visit | None:
    """The request, if it asks a model and its caller is known, as soon as that is."""
    visit: Visit | None = scope.get(VISIT)
    return visit if visit is not None and visit.operation and visit.caller.scopes else None


def _failure(work: Callable[..., None], *given: Any) -> LocalModelsError | None:
    """What has kept this from being done."""
    try:
        work(*given)
    except LocalModelsError as error:
        return error
    except Exception:  # a defect of ours, which shall not end what comes after it
        log.exception("what was asked and answered could not be kept")
        return unforeseen()
    return None


async def apart(work: Callable[[], None]) -> None:
    """Waits until this is done, in a thread of its own: if it hangs, the program can end all the same."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

    Thread(target=run, name="capture", daemon=True).start()
    await done.wait()
