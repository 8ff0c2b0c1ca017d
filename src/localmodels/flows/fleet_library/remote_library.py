"""One other server, asked to change its library: an Ollama, or a LocalModels.

The rule: it is asked by our own client, with its key and for it alone; it may be silent for as long as its settings
allow, and every error says which server it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from localmodels.artifacts.recipe import expanded
from localmodels.core.catalog import Description, Digest, Running
from localmodels.core.errors import BackendTimeout, LocalModelsError, ModelNotFound, NotFound, Unsupported
from localmodels.core.library import CopyRequest, CreateRequest, DeleteRequest, Progress, PullRequest, PushRequest
from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import same_name
from localmodels.flows.concurrency.thread_progress import INTERVAL, Done
from localmodels.flows.concurrency.threads import in_thread
from localmodels.flows.connections.remotes import translated

if TYPE_CHECKING:
    from localmodels.client import AsyncClient

T = TypeVar("T")
Steps = AsyncGenerator[Progress, None]
Connect = Callable[[ServerSpec], "AsyncClient"]
Lend = Callable[[Sequence[Digest]], AbstractAsyncContextManager[Mapping[Digest, Path]]]
"""Those of these blobs that are here, as files that stay meanwhile."""

# What a server does between two steps without telling how far it is, and how long that may take: a large model is read
# from a slow disk (400 GB at 250 MB/s) to be verified or converted.
_QUIET = ("verifying", "writing", "removing", "converting", "quantizing", "parsing", "creating", "using")
QUIET = 1_800.0


class Afar:
    """One of them.

    Args:
        spec: as its owner describes it; it speaks Ollama's API.
        connect: the way to it.
        lend: the blobs of this machine, which models there may be made of.
    """

    def __init__(self, spec: ServerSpec, connect: Connect, lend: Lend) -> None:
        self._spec = spec
        self._connect = connect
        self._lend = lend

    async def pull(self, request: PullRequest) -> Steps:
        """Has it fetch a model."""
        async with self._open(request.model) as client:
            steps = client.pull(request.model, insecure=request.insecure)
            async with aclosing(patient(steps, self._spec)) as heard:
                async for step in heard:
                    yield step

    async def push(self, request: PushRequest) -> Steps:
        """Has it send a model."""
        async with self._open(request.model) as client:
            steps = client.push(request.model, insecure=request.insecure)
            async with aclosing(patient(steps, self._spec)) as heard:
                async for step in heard:
                    yield step

    async def create(self, request: CreateRequest) -> Steps:
        """Has it make a model; what is here of the files that it is made of is brought there first.

        Raises:
            Unsupported: it shall be made of an artifact, which is here.
        """
        request = await in_thread(expanded, replace(request, servers=()))
        if request.artifact:
            what = "an artifact becomes a model on another server by POST /models/create/ with `server`"
            raise Unsupported(what, param="artifact")
        digests = tuple({Digest.parse(digest) for _, digest in (*request.files, *request.adapters)})
        async with self._open(request.model) as client:
            async with self._lend(digests) as here:
                for digest, file in here.items():
                    async with aclosing(sent(client, file, self._spec, str(digest))) as sending:
                        async for step in sending:
                            if isinstance(step, Progress):
                                yield replace(step, status=f"pushing {digest.hex[:12]}")
            # A request that is made of fields says all that a Modelfile did, which Ollama takes no more.
            async with aclosing(patient(client.create(replace(request, modelfile="")), self._spec)) as heard:
                async for step in heard:
                    yield step

    async def copy(self, request: CopyRequest) -> None:
        """Has it give a model a second name."""
        await self._asked_of(request.source, lambda client: client.copy(request.source, request.destination))

    async def delete(self, request: DeleteRequest) -> None:
        """Has it take a name away."""
        await self._asked_of(request.model, lambda client: client.delete(request.model))

    async def unload(self, model: str) -> None:
        """Has it take a model out of its memory."""
        await self._asked_of(model, lambda client: client.unload(model))

    async def running(self) -> Sequence[Running]:
        """What is in its memory."""
        rows = await self._asked("", lambda client: client.ps())
        return [replace(row, model=replace(row.model, server=self._spec.name)) for row in rows]

    async def describe(self, name: str, *, verbose: bool) -> Description:
        """What it tells of a model."""
        shown, _ = await self._asked(name, lambda client: client.show(name, verbose=verbose))
        model = replace(shown.model, name=shown.model.name or name, server=self._spec.name)
        return replace(shown, model=model, path="")

    async def _asked(self, model: str, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        async with self._open(model) as client:
            return await heard("answered nothing", self._spec.first_byte, ask(client))

    async def _asked_of(self, model: str, ask: Callable[[AsyncClient], Awaitable[object]]) -> None:
        """Asks for something to be done with a model.

        Raises:
            ModelNotFound: it has none of this name. Not every server says so in Ollama's words: of one that answers 404
                in others its list is asked.
        """
        async with self._open(model) as client:
            try:
                await heard("answered nothing", self._spec.first_byte, ask(client))
            except NotFound as error:
                if isinstance(error, ModelNotFound) or await self._lists(client, model):
                    raise
                raise ModelNotFound(model) from error

    async def _lists(self, client: AsyncClient, model: str) -> bool:
        """Has it a model of this name, as far as it tells?"""
        try:
            models = await heard("answered nothing", self._spec.first_byte, client.list())
        except LocalModelsError:
            return True
        return same_name(model) in {same_name(one.name) for one in models}

    @asynccontextmanager
    async def _open(self, model: str) -> AsyncIterator[AsyncClient]:
        with told_of(self._spec, model):
            async with await asyncio.to_thread(self._connect, self._spec) as client:
                yield client


@contextmanager
def told_of(spec: ServerSpec, model: str) -> Iterator[None]:
    """Errors of a server as the caller shall hear them: with its name."""
    try:
        yield
    except LocalModelsError as error:
        ours = translated(error, spec, model)
        where = f"the server '{spec.name}'"
        named = where in ours.message or f"{spec.name}/" in ours.message
        raise ours if named else ours.reworded(f"{where}: {ours.message}", ours.param) from error


async def heard(what: str, most: float, answer: Awaitable[T]) -> T:
    """The answer, if it comes within so many seconds.

    Raises:
        BackendTimeout: it does not; says what the server did.
    """
    try:
        async with asyncio.timeout(most) as clock:
            return await answer
    except TimeoutError as error:
        if not clock.expired():
            raise
        raise BackendTimeout(f"the server {what} for {most:g} s") from error


async def patient(steps: Steps, spec: ServerSpec) -> Steps:
    """The steps of a server, as long as it is not silent for longer than its settings allow.

    Raises:
        BackendTimeout: it was.
    """
    async with aclosing(steps):
        step = await heard("answered nothing", spec.first_byte, anext(steps, None))
        while step is not None:
            yield step
            most = max(QUIET, spec.idle) if step.status.startswith(_QUIET) else spec.idle
            step = await heard("was silent", most, anext(steps, None))


async def sent(
    client: AsyncClient, file: Path, spec: ServerSpec, digest: str = ""
) -> AsyncGenerator[Progress | Done[str], None]:
    """How far a file is on its way to a server, the latest now and then; at the end its digest. Leaving ends it.

    Args:
        client: of the server.
        file: of this machine.
        spec: says how long the server may be silent.
        digest: of the file, where it is known; else it is read for it.
    """
    news = asyncio.Event()
    last: list[Progress] = []

    def show(step: Progress) -> None:
        last[:] = [step]
        news.set()

    task = asyncio.ensure_future(client.upload(file, show, digest=digest))
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done():
            await heard("was silent", spec.idle, news.wait())
            news.clear()
            if last:
                yield last.pop()
            await asyncio.wait([task], timeout=INTERVAL)
        yield Done(task.result())
    finally:
        task.cancel()
        await asyncio.wait([task])
