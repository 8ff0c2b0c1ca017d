"""A model that was made here, brought to another server: an Ollama, or a LocalModels, of the configuration.

The rule: over there too the name is given last. The model is made under a name of its own, must answer, and is then
given the name by a copy; what fails leaves what had the name serving, and nothing of ours behind.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, EmbedRequest, GenerateRequest, Message, Text
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    InvalidRequest,
    LocalModelsError,
    ModelNotFound,
    NotFound,
    Unsupported,
)
from localmodels.core.library import SUCCESS, CreateRequest, Progress, Watcher
from localmodels.core.options import Options
from localmodels.core.rerank import RerankRequest
from localmodels.core.servers import ServerSpec
from localmodels.engine.loadable import Purpose
from localmodels.flows.local import purpose_of
from localmodels.flows.remotes import translated
from localmodels.flows.texts import parameters_of
from localmodels.flows.threads import heard_out
from localmodels.flows.trial import DOCUMENTS, GREETING, QUESTION, TOKENS
from localmodels.flows.watched import INTERVAL, Done
from localmodels.store.entries import Entry

if TYPE_CHECKING:
    from localmodels.client import AsyncClient

log = logging.getLogger(__name__)

T = TypeVar("T")
Steps = AsyncGenerator[Progress, None]
Connect = Callable[[ServerSpec], "AsyncClient"]

KIND = "ollama"
PARTING = 10.0  # seconds that a server has to forget a trial: whoever cancels, or ends the server, waits for it


class Elsewhere:
    """The other servers, as places where models are made.

    Args:
        servers: those of the configuration by name, as it is now.
        connect: the way to one.
        parting: seconds that one has to forget what was made on trial.
    """

    def __init__(
        self,
        servers: Callable[[], Mapping[str, ServerSpec]],
        connect: Connect | None = None,
        *,
        parting: float = PARTING,
    ) -> None:
        self._servers = servers
        self._connect = connect or client_of
        self._parting = parting

    def named(self, name: str) -> ServerSpec:
        """The server that a request names.

        Raises:
            InvalidRequest: there is none of this name.
            Unsupported: models cannot be made there.
        """
        servers = self._servers()
        spec = servers.get(name)
        if spec is None:
            there = ", ".join(sorted(servers)) or "none"
            raise InvalidRequest(f"there is no server '{name[:60]}'; there are: {there}", param="server")
        if spec.kind != KIND:
            what = f"the server '{name}' is of the kind {spec.kind}; models can be made on servers of the kind {KIND}"
            raise Unsupported(what, param="server")
        return spec

    async def put(self, name: str, entry: Entry) -> Steps:
        """Makes this model there, under its name.

        Args:
            name: of the server.
            entry: the model; somebody else protects its files.

        The server may be silent for as long as its settings allow, and then it is given up.

        Raises:
            BackendTimeout: it was silent for longer.
            LocalModelsError: it is not there now; says why.
        """
        spec = self.named(name)
        client = await asyncio.to_thread(self._connect, spec)
        given = False
        try:
            async with client, aclosing(_put(client, entry, spec, self._parting)) as steps:
                async for step in steps:
                    yield step
                given = True
        except asyncio.CancelledError:
            if not given:  # else it is too late
                raise
        except LocalModelsError as error:
            told = translated(error, spec, str(entry.name))
            where = f"the server '{spec.name}'"
            raise told if where in told.message else told.reworded(f"{where}: {told.message}", told.param) from error


async def _put(client: AsyncClient, entry: Entry, spec: ServerSpec, parting: float) -> Steps:
    trial = replace(entry.name, tag=f"trial-{os.urandom(8).hex()}")
    status = f"pushing model to {spec.name}"
    first, idle = partial(_heard, "answered nothing", spec.first_byte), partial(_heard, "was silent", spec.idle)
    digests: dict[str, str] = {}
    for path in (*entry.parts, *((entry.projector_path,) if entry.projector_path else ()), *entry.adapter_paths):
        async with aclosing(_told(lambda show, path=path: client.upload(path, show), idle)) as uploading:  # type: ignore[misc]
            async for step in uploading:
                if isinstance(step, Done):
                    digests[path] = step.value
                else:
                    yield Progress(status, step.digest, step.total, step.completed)
    try:
        async with aclosing(client.create(request_of(entry, str(trial), digests))) as steps:
            made = await first(anext(steps, None))
            while made is not None:
                if made.status != SUCCESS:
                    yield Progress(f"{status}: {made.status}", made.digest, made.total, made.completed)
                made = await idle(anext(steps, None))
        yield Progress("verifying model")
        if not await first(_tried(client, str(trial), entry)):
            yield Progress(f"the server {spec.name} does not rank texts by itself: the model was not put to the trial")
        yield Progress("writing manifest")
        # What was asked cannot be taken back: whoever is cancelled now hears what became of it.
        await heard_out(asyncio.ensure_future(first(client.copy(str(trial), str(entry.name)))))
    finally:
        await heard_out(asyncio.ensure_future(_forgotten(client, str(trial), spec.name, parting)))


async def _heard(what: str, most: float, answer: Awaitable[T]) -> T:
    """The answer, if it comes within so many seconds.

    Raises:
        BackendTimeout: it does not; says what the server did.
    """
    try:
        async with asyncio.timeout(most):
            return await answer
    except TimeoutError as error:
        raise BackendTimeout(f"the server {what} for {most:g} s") from error


async def _tried(client: AsyncClient, name: str, entry: Entry) -> bool:
    """Looks whether the model does over there what it is for; can the server be asked for that at all?

    Raises:
        BackendError: the model does not.
    """
    purpose = purpose_of(GenerateRequest(name), entry.header)
    try:
        good = await _TRIALS[purpose](client, name)
    except NotFound as error:
        if purpose != "rank" or isinstance(error, ModelNotFound):
            raise
        return False  # Ollama itself has no such address
    if not good:
        raise BackendError("the model was made, but does not answer")
    return True


async def _writes(client: AsyncClient, name: str) -> bool:
    options = Options(num_predict=TOKENS, temperature=0.0)
    answer = await client.chat(ChatRequest(name, (Message("user", (Text(GREETING),)),), options=options))
    return answer.done.usage.completion_tokens > 0


async def _embeds(client: AsyncClient, name: str) -> bool:
    vectors = (await client.embed(EmbedRequest(name, (GREETING,)))).vectors
    return len(vectors) == 1 and any(vectors[0]) and all(map(isfinite, vectors[0]))


async def _ranks(client: AsyncClient, name: str) -> bool:
    results = (await client.rerank(RerankRequest(name, QUESTION, DOCUMENTS))).results
    return len(results) == len(DOCUMENTS) and all(isfinite(one.score) for one in results)


_TRIALS: Mapping[Purpose, Callable[[AsyncClient, str], Awaitable[bool]]] = {
    "generate": _writes,
    "embed": _embeds,
    "rank": _ranks,
}


async def _forgotten(client: AsyncClient, name: str, server: str, parting: float) -> None:
    try:
        async with asyncio.timeout(parting):
            await client.delete(name)
    except NotFound:
        return  # it was not made
    except (LocalModelsError, TimeoutError) as error:
        log.warning("the server '%s' may still have the model %s, which nobody needs: %s", server, name, error)


def request_of(entry: Entry, name: str, digests: Mapping[str, str]) -> CreateRequest:
    """The model as that server is asked for it.

    Args:
        entry: the model.
        name: that it gets there.
        digests: of its files, which are there, by their paths.
    """
    weights = [*entry.parts, *((entry.projector_path,) if entry.projector_path else ())]
    names = [f"model-{place:05d}.gguf" for place in range(len(weights))]
    adapters = [f"{title}.gguf" for title in entry.adapter_names]
    return CreateRequest(
        model=name,
        files=tuple((file, digests[path]) for file, path in zip(names, weights, strict=True)),
        adapters=tuple((file, digests[path]) for file, path in zip(adapters, entry.adapter_paths, strict=True)),
        template=entry.template or None,
        system=entry.system or None,
        parameters=tuple(parameters_of(entry).items()),
        messages=entry.messages or None,
        license=entry.license or None,
        renderer=entry.renderer,
        parser=entry.parser,
        requires=entry.requires,
    )


async def _told(
    work: Callable[[Watcher], Awaitable[T]], heard: Callable[[Awaitable[bool]], Awaitable[bool]]
) -> AsyncGenerator[Progress | Done[T], None]:
    """What the work tells, the latest now and then; at the end what it gives. Leaving ends it.

    Args:
        work: tells.
        heard: waits for news, but not for ever.
    """
    news = asyncio.Event()
    last: list[Progress] = []

    def show(step: Progress) -> None:
        last[:] = [step]
        news.set()

    task = asyncio.ensure_future(work(show))
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done():
            await heard(news.wait())
            news.clear()
            if last:
                yield last.pop()
            await asyncio.wait([task], timeout=INTERVAL)
        yield Done(task.result())
    finally:
        task.cancel()
        await asyncio.wait([task])


def client_of(spec: ServerSpec) -> AsyncClient:
    """Our own client, with this server's key and for it alone. Loaded here: most servers never need it."""
    client: type[AsyncClient] = importlib.import_module("localmodels.client").AsyncClient
    transport = None
    if spec.ca_file is not None:
        trusted = ssl.create_default_context()
        trusted.load_verify_locations(Path(spec.ca_file))
        transport = importlib.import_module("httpx2").AsyncHTTPTransport(verify=trusted)
    return client(spec.url, api_key=spec.key.reveal(), transport=transport, environ={})
