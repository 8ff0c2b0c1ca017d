"""The routes that change the library: long operations as streams of progress, short ones in one piece, and uploads.

A request that names servers is done there, on each by itself, and each is told of by its name. What is not streamed has
the status 502 unless all did it: that is the one by which Ollama's clients know that something behind us failed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from localmodels.core.access import EVERY_MODEL, Caller, check_model
from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import Forbidden, InvalidRequest, InvalidValue, LocalModelsError, ModelNotFound
from localmodels.core.library import (
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Outcome,
    PartlyDone,
    Progress,
    PullRequest,
    PushRequest,
)
from localmodels.dialects.ollama import library
from localmodels.dialects.protocol import Dialect
from localmodels.server.edge.seam import edge_of
from localmodels.server.inference import Reply, decoded
from localmodels.server.streaming import Form, respond_stream
from localmodels.server.wire import (
    MOST_BLOCKED,
    ClientGone,
    attended,
    header,
    read_body,
    respond,
    respond_error,
    visit_of,
)

SMALL = 2**20  # bytes of a body that holds names

Asked = TypeVar("Asked", PullRequest, PushRequest, CreateRequest)
Transferred = TypeVar("Transferred", PullRequest, PushRequest)


class Operation(Struct, Generic[Asked], frozen=True):
    """How a long operation is asked for, what of it this caller may ask, and who does it."""

    read: Callable[[bytes], Asked]
    flow: Callable[[Asked], AsyncGenerator[Progress, None]]
    allowed: Callable[[Asked, Caller], Asked]


def transfer(request: Transferred, caller: Caller) -> Transferred:
    """A pull or a push as this caller may ask for it: who is not the owner names no host of the local network.

    Raises:
        Forbidden: his key is for other models.
    """
    check_models(caller, request.model)
    return replace(request, operator=caller.may("admin"))


def creation(request: CreateRequest, caller: Caller) -> CreateRequest:
    """A creation as this caller may ask for it. Raises as :func:`transfer`."""
    check_models(caller, request.model, request.base or request.model)
    if request.modelfile and caller.models != EVERY_MODEL:
        raise Forbidden("this key is for some models alone: say in `from` what a model is made of", param="modelfile")
    if request.artifact and caller.models != EVERY_MODEL:  # an adapter may find its base by itself
        raise Forbidden("this key is for some models alone: it makes none of artifacts", param="artifact")
    return request


def check_models(caller: Caller, *names: str) -> None:
    """Looks whether a caller's key is for these models.

    Raises:
        Forbidden: it is not for one of them.
    """
    if caller.models == EVERY_MODEL:
        return
    for name in names:
        check_model(caller, str(ModelName.parse(name)))


class ProgressRoute(Generic[Asked]):
    """An ASGI endpoint that does something long and tells how far it is.

    Until the first step is there nothing has been sent, and an error is an HTTP status; after it an error is the last
    line, and ``success`` is not said. A client that takes nothing for ``most_blocked`` seconds is given up.
    """

    def __init__(self, dialect: Dialect, operation: Operation[Asked], *, most_blocked: float = MOST_BLOCKED) -> None:
        self._dialect = dialect
        self._most_blocked = most_blocked
        self._operation: Operation[Asked] = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        asked = await decoded(self._operation.read, await read_body(receive))
        request = self._operation.allowed(asked, visit_of(scope).caller)
        await attended(scope, receive, self._answer(scope, request, send))

    async def _answer(self, scope: Scope, request: Asked, send: Send) -> None:
        async with partly_told(scope, send, on=not request.stream), aclosing(self._operation.flow(request)) as steps:
            first = await anext(steps)
            if not request.stream:
                rows = {first.server: first} if first.server else {}
                async for step in steps:
                    if step.server:
                        rows[step.server] = step
                outcomes = [Outcome(row.server, row.status, row.failure) for row in rows.values()]
                await respond(send, 200, library.write_outcomes(outcomes))
                return
            form = Form(self._dialect.stream_type, library.write_progress, self._failure)
            await respond_stream(scope, send, first, steps, form, most_blocked=self._most_blocked)

    def _failure(self, error: LocalModelsError) -> bytes:
        return self._dialect.write_error(error) + b"\n"


@asynccontextmanager
async def partly_told(scope: Scope, send: Send, *, on: bool = True) -> AsyncIterator[None]:
    """An answer that has not begun says what became of each server, where not all did what was asked."""
    try:
        yield
    except PartlyDone as error:
        if not on:
            raise
        visit_of(scope).error = error
        await respond(send, error.status, library.write_outcomes(error.outcomes, error.message))


class ChangeRoute:
    """An ASGI endpoint that does something short, perhaps on several servers."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        body = await read_body(receive, SMALL)
        await attended(scope, receive, self._answer(scope, body, send))

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        async with partly_told(scope, send):
            await respond(send, 200, await self._reply(scope, body))


class Does(Protocol):
    """Does what is asked of models that there are, wherever a request says."""

    def push(self, request: PushRequest, /) -> AsyncGenerator[Progress, None]: ...

    async def copy(self, request: CopyRequest, /) -> Sequence[Outcome]: ...

    async def delete(self, request: DeleteRequest, /) -> Sequence[Outcome]: ...


class Changes:
    """What is done to models. Where no server is named they are this machine's: one of another is said to be there.

    Args:
        does: them.
        require_here: looks at a name that was not found here; raises where it is known.
    """

    def __init__(self, does: Does, require_here: Callable[[str], None]) -> None:
        self._does = does
        self._require_here = require_here

    async def copy(self, scope: Scope, body: bytes) -> bytes:
        """``/api/copy``."""
        request = await decoded(library.read_copy, body)
        check_models(visit_of(scope).caller, request.source, request.destination)
        with self._sought("" if request.servers else request.source):
            return library.write_outcomes(await self._does.copy(request))

    async def delete(self, scope: Scope, body: bytes) -> bytes:
        """``/api/delete``."""
        request = await decoded(library.read_delete, body)
        check_models(visit_of(scope).caller, request.model)
        with self._sought("" if request.servers else request.model):
            return library.write_outcomes(await self._does.delete(request))

    async def push(self, request: PushRequest) -> AsyncGenerator[Progress, None]:
        """``/api/push``."""
        async with aclosing(self._does.push(request)) as steps:
            with self._sought("" if request.servers else request.model):
                async for step in steps:
                    yield step

    @contextmanager
    def _sought(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ModelNotFound, InvalidValue):  # elsewhere, names may have more parts than ours
            if name:
                self._require_here(name)
            raise


class Takes(Protocol):
    """Where blobs go."""

    async def blob_size(self, digest: Digest) -> int: ...

    async def upload(self, digest: Digest, pieces: AsyncIterator[bytes], size: int | None) -> None: ...


class BlobRoute:
    """``/api/blobs/{digest}``: is it there (HEAD), and take it (POST)."""

    def __init__(self, dialect: Dialect, takes: Takes) -> None:
        self._dialect = dialect
        self._takes = takes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            digest = Digest.parse(scope["path_params"]["digest"])
            if scope["method"] == "HEAD":
                await self._takes.blob_size(digest)
                await respond(send, 200, b"")
                return
            if (edge := edge_of(scope)) is not None:
                edge.stream_body()
            await self._takes.upload(digest, pieces(receive), announced(scope))
        except LocalModelsError as error:
            visit_of(scope).error = error
            # What has not come of a file would be read to its end, and thrown away.
            leaves = scope["method"] == "POST"
            await respond_error(send, self._dialect, error, headers=[(b"connection", b"close")] if leaves else ())
        else:
            await respond(send, 201, b"")


async def pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        ClientGone: it never came whole.
    """
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if data := message.get("body", b""):
            yield data
        if not message.get("more_body"):
            return


def announced(scope: Scope) -> int | None:
    """The size that a request says its body has.

    Raises:
        InvalidRequest: it is no number.
    """
    text = header(scope, b"content-length")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise InvalidRequest("Content-Length is not a number of bytes")
    return int(text)
