"""A model that was made here, brought to other servers: Ollama, or LocalModels.

The rule: over there too the name is given last. The model is made under a name of its own, must answer, and is then
given the name by a copy; what fails leaves what had the name serving, and nothing of ours behind. Several servers get
it side by side, each by itself.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from localmodels.core.chat import ChatRequest, EmbedRequest, GenerateRequest, Message, Text
from localmodels.core.errors import (
    BackendError,
    LocalModelsError,
    ModelNotFound,
    NotFound,
    Unsupported,
)
from localmodels.core.fleet import LOCAL
from localmodels.core.library import EVERY, FAILED, SUCCESS, CreateRequest, Outcome, PartlyDone, Progress
from localmodels.core.options import Options
from localmodels.core.rerank import RerankRequest
from localmodels.core.servers import ServerSpec
from localmodels.engine.loadable import Purpose
from localmodels.flows.answering.local_models import purpose_of
from localmodels.flows.concurrency.parallel import Abreast
from localmodels.flows.concurrency.thread_progress import Done
from localmodels.flows.concurrency.threads import heard_out
from localmodels.flows.fleet_library.remote_library import Connect, heard, patient, sent, told_of
from localmodels.flows.fleet_library.target_servers import MANAGED, meant, unmanaged, without_server
from localmodels.flows.library.config_blobs import parameters_of
from localmodels.flows.library.trial import DOCUMENTS, GREETING, QUESTION, TOKENS
from localmodels.store.entries import Entry
from localmodels.store.layout import digest_of

if TYPE_CHECKING:
    from localmodels.client import AsyncClient

log = logging.getLogger(__name__)

Steps = AsyncGenerator[Progress, None]
Give = Callable[[], Steps]

WAITING = "waiting"
PARTING = 10.0  # seconds that a server has to forget a trial: whoever cancels, or ends the server, waits for it


class Elsewhere:
    """The other servers, as places where models are made.

    Args:
        servers: those of the configuration by name, as it is now.
        connect: the way to one.
        changed: is told whose library is another now.
        parting: seconds that one has to forget what was made on trial.
    """

    def __init__(
        self,
        servers: Callable[[], Mapping[str, ServerSpec]],
        connect: Connect | None = None,
        *,
        changed: Callable[[ServerSpec], object] = lambda _: None,
        parting: float = PARTING,
    ) -> None:
        self._servers = servers
        self._connect = connect or client_of
        self._changed = changed
        self._parting = parting

    def named(self, name: str) -> tuple[ServerSpec, ...]:
        """The servers that a request names: one, several with commas between, or ``*``.

        Raises:
            InvalidRequest: there is none of this name.
            Unsupported: models cannot be made there.
        """
        names = tuple(one.strip() for one in name.split(","))
        specs = meant(names, tuple(self._servers().values()))
        for spec in specs:
            if (why := unmanaged(spec)) and EVERY not in names:
                raise Unsupported(why, param="server")
        return tuple(spec for spec in specs if spec.kind in MANAGED)

    async def put(self, name: str, entry: Entry, give: Give | None = None) -> Steps:
        """Makes this model there, under its name.

        Args:
            name: of the server; or of several, whose steps then say whose they are.
            entry: the model; somebody else protects its files.
            give: gives it its name here, where this machine is one of several.

        A server may be silent for as long as its settings allow, and then it is given up.

        Raises:
            BackendTimeout: it was silent for longer.
            PartlyDone: not all of several have it.
            LocalModelsError: it is not there now; says why.
        """
        specs = self.named(name)
        if len(specs) == 1 and specs[0].kind != LOCAL:
            putting = self._put(specs[0], entry)
        else:
            putting = self._spread(specs, entry, give)
        async with aclosing(putting) as steps:
            async for step in steps:
                yield step

    async def _spread(self, specs: Sequence[ServerSpec], entry: Entry, give: Give | None) -> Steps:
        """The same on several; each one's last step is ``success``, or says why it failed."""
        works: dict[str, Give] = {spec.name: partial(self._put, spec, entry) for spec in specs if spec.kind != LOCAL}
        works |= {spec.name: give for spec in specs if spec.kind == LOCAL and give is not None}
        for spec in specs:
            yield Progress(WAITING, server=spec.name)
        outcomes: dict[str, Outcome] = {}
        async with aclosing(Abreast(works).told()) as news:
            async for server, said in news:
                if isinstance(said, Progress):
                    yield structs.replace(said, server=server)
                    continue
                failure = without_server(server, said.message) if said else ""
                outcomes[server] = Outcome(server, FAILED if said else SUCCESS, failure)
                yield Progress(outcomes[server].status, server=server, failure=outcomes[server].failure)
        if any(one.status == FAILED for one in outcomes.values()):
            raise PartlyDone(tuple(outcomes.values()))

    async def _put(self, spec: ServerSpec, entry: Entry) -> Steps:
        client = await asyncio.to_thread(self._connect, spec)
        given = False
        try:
            with told_of(spec, str(entry.name)):
                async with client, aclosing(_put(client, entry, spec, self._parting)) as steps:
                    async for step in steps:
                        yield step
                    given = True
        except asyncio.CancelledError:
            if not given:  # else it is too late
                raise
        self._changed(spec)


async def _put(client: AsyncClient, entry: Entry, spec: ServerSpec, parting: float) -> Steps:
    trial = structs.replace(entry.name, tag=f"trial-{os.urandom(8).hex()}")
    status = f"pushing model to {spec.name}"
    first = partial(heard, "answered nothing", spec.first_byte)
    digests: dict[str, str] = {}
    for path in (*entry.parts, *((entry.projector_path,) if entry.projector_path else ()), *entry.adapter_paths):
        known = digest_of(Path(path).name)  # a blob of the store is called by its digest
        async with aclosing(sent(client, Path(path), spec, str(known or ""))) as uploading:
            async for step in uploading:
                if isinstance(step, Done):
                    digests[path] = step.value
                else:
                    yield Progress(status, step.digest, step.total, step.completed)
    try:
        making = client.create(request_of(entry, str(trial), digests))
        async with aclosing(patient(making, spec)) as steps:
            async for made in steps:
                if made.status != SUCCESS:
                    yield Progress(f"{status}: {made.status}", made.digest, made.total, made.completed)
        yield Progress("verifying model")
        if not await first(_tried(client, str(trial), entry)):
            yield Progress(f"the server {spec.name} does not rank texts by itself: the model was not put to the trial")
        yield Progress("writing manifest")
        # What was asked cannot be taken back: whoever is cancelled now hears what became of it.
        await heard_out(asyncio.ensure_future(first(client.copy(str(trial), str(entry.name)))))
    finally:
        await heard_out(asyncio.ensure_future(_forgotten(client, str(trial), spec.name, parting)))


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


def client_of(spec: ServerSpec) -> AsyncClient:
    """Our own client, with this server's key and for it alone. Loaded here: most servers never need it."""
    client: type[AsyncClient] = importlib.import_module("localmodels.client").AsyncClient
    transport = importlib.import_module("localmodels.backends.pinned").transport_to(spec)
    return client(spec.url, api_key=spec.key.reveal(), transport=transport, environ={})
