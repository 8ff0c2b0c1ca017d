"""A fleet of scripted servers, and perhaps an engine of this machine, behind the flows: what tests of routing ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from time import monotonic
from typing import Any

from msgspec import Struct, field
from tests.contract.backends import chat

from localmodels.backends.fake import Book, Fake, FakeServer, Script
from localmodels.backends.fake.script import Choose
from localmodels.core.access import LOCAL, Caller
from localmodels.core.catalog import Description, Model, Running
from localmodels.core.chat import ChatRequest, Chunk, Done, GenerateRequest, Usage, fold
from localmodels.core.errors import LocalModelsError, ModelNotFound
from localmodels.core.servers import ServerSpec
from localmodels.dialects.peek import peek
from localmodels.dialects.table import CHATS, WAYS
from localmodels.dialects.told import Told
from localmodels.fleet.fleet import Fleet
from localmodels.flows.answering.chat import Answers, Defaults, Found, Loading, Request
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.routing.relay import Relays
from localmodels.flows.routing.remote_model import RelayTo
from localmodels.flows.routing.router import Routes
from localmodels.flows.visit import HERE, Visit

MODEL = "m:1"
DONE = Done("stop", Usage(5, 3))


def says(word: str) -> Script:
    """A server that answers in good form, with its own word."""
    return Script((Chunk(word), Chunk("!")), DONE)


class Own:
    """A model of this machine, run by a scripted engine.

    Attributes:
        taken: how often it was asked to be ready.
        in_memory: what it says when it is unloaded.
    """

    listed = True

    def __init__(
        self,
        script: Script | Choose,
        *,
        name: str = MODEL,
        capabilities: tuple[str, ...] = ("completion",),
        adapters: tuple[str, ...] = (),
        defaults: Defaults | None = None,
        error: LocalModelsError | None = None,
    ) -> None:
        self.name = name
        self.capabilities = capabilities
        self.adapters = adapters
        self.defaults = defaults or Defaults()
        self.backend = Fake(script, patience=0.1)
        self.taken = self.unloaded = 0
        self.in_memory = False
        self._error = error

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Any]:
        self.taken += 1
        visit.server = HERE
        if self._error:
            raise self._error
        yield self.backend

    async def load(self, request: Loading, visit: Visit) -> None:
        async with self.ready(request, visit):
            pass

    async def unload(self) -> str:
        self.unloaded += 1
        return HERE if self.in_memory else ""


class Machine:
    """The library of this machine; knows what was looked for."""

    def __init__(self, *models: Own) -> None:
        self.models_here = {model.name: model for model in models}
        self.looked_for: list[str] = []

    async def find(self, name: str) -> Found:
        self.looked_for.append(name)
        found = self.models_here.get(name) or self.models_here.get(f"{name}:latest")
        if found is None:
            raise ModelNotFound(name)
        return found

    async def models(self) -> tuple[Model, ...]:
        return tuple(Model(name, 0, "0" * 64, "") for name in self.models_here)

    async def describe(self, name: str, *, verbose: bool) -> Description:
        return Description(Model((await self.find(name)).name, 0, "0" * 64, ""))

    def running(self) -> tuple[Running, ...]:
        return ()


class Came(Struct):
    """What came of one request."""

    text: str
    error: LocalModelsError | None
    visit: Visit
    body: bytes = b""

    @property
    def server(self) -> str:
        return self.visit.server


class Behind(Struct):
    """The fleet, and the flows in front of it.

    Attributes:
        fakes: the servers by name, the highest priority first.
        own: the model of this machine, if it has one.
        looked: ids of the hosts that were asked anew for what they have.
    """

    fakes: Mapping[str, FakeServer]
    own: Own | None
    machine: Machine
    remotes: Remotes
    routes: Routes
    finders: Finders
    answers: Answers
    relays: Relays
    looked: list[str] = field(default_factory=list)

    def book(self, name: str) -> Book:
        """What a host was asked."""
        if name == "local":
            assert self.own is not None
            return self.own.backend.book
        return self.fakes[name].book

    def generations(self) -> dict[str, int]:
        """Of each host, the requests that it took up."""
        names = (*self.fakes, *(("local",) if self.own else ()))
        return {name: len(self.book(name).visits) for name in names}

    async def ask(self, request: ChatRequest | None = None, **about: Any) -> Came:
        """Asks the usual way, translated."""
        visit = visit_of(**about)
        flow = self.answers.chat(request or chat(model=MODEL), visit)
        pieces: list[str] = []
        try:
            async with aclosing(flow) as stream:
                async for events in stream:
                    pieces += [event.text for event in events if isinstance(event, Chunk)]
        except LocalModelsError as error:
            return Came("".join(pieces), error, visit)
        return Came("".join(pieces), None, visit)

    async def text(self, request: GenerateRequest, **about: Any) -> str:
        """Goes on with a text."""
        return (await fold(self.answers.generate(request, visit_of(**about)))).text

    def to(self, dialect: str, body: bytes, visit: Visit) -> RelayTo | None:
        """Where a body goes as it is."""
        found = self.relays.find(json.loads(body)["model"], dialect, "chat")
        return self.relays.aimed(found, dialect, "chat", peek(WAYS[dialect], body), visit) if found else None

    async def relay(self, dialect: str = "ollama", *, stream: bool = True, model: str = MODEL, **about: Any) -> Came:
        """Passes a request on as it is."""
        fields: dict[str, Any] = {"max_tokens": 9} if dialect == "anthropic" else {}
        fields |= {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello?"}]}
        body, visit = json.dumps(fields).encode(), visit_of(**about)
        pieces: list[bytes] = []
        try:
            to = self.to(dialect, body, visit)
            assert to is not None
            path, asked = CHATS[dialect].paths["chat"], peek(WAYS[dialect], body)
            if not asked.stream:
                return Came("", None, visit, await self.relays.whole(to, path, asked, visit))
            passing = self.relays.open(to, path, asked, visit)
            async with aclosing(passing) as passed:
                async for piece in passed:
                    pieces.append(piece)  # noqa: PERF401  # what came before an error counts
        except LocalModelsError as error:
            return Came("", error, visit, b"".join(pieces))
        return Came("", None, visit, b"".join(pieces))


def visit_of(caller: Caller = LOCAL, *, session: str = "", once: bool = False) -> Visit:
    """A request's visit."""
    visit = Visit("req", caller)
    visit.session, visit.once = session, once
    return visit


@asynccontextmanager
async def fleet(
    scripts: Mapping[str, Script | Choose],
    own: Own | None = None,
    *,
    model: str = MODEL,
    policy: str = "priority",
    places: int = 4,
    first_byte: float = 10.0,
    idle: float = 10.0,
    own_first: bool = False,
    clock: Callable[[], float] = monotonic,
    **spec: Any,
) -> AsyncIterator[Behind]:
    """Servers that all have one model, in this order; this machine comes last, unless it is ``own_first``."""
    async with AsyncExitStack() as stack:
        fakes = {name: await stack.enter_async_context(FakeServer(script)) for name, script in scripts.items()}
        remotes = Remotes(fleet=Fleet(clock=clock), patience=5.0)
        specs = [
            ServerSpec(
                name=name,
                id=f"id-{name}",
                url=fake.url,
                kind=spec.get("kinds", {}).get(name, "ollama"),
                registered=True,
                priority=100 - number,
                max_concurrent=places,
                first_byte=first_byte,
                idle=idle,
            )
            for number, (name, fake) in enumerate(fakes.items())
        ]
        specs += spec.get("more", ())
        if own is not None:
            priority = 200 if own_first else 0
            specs.append(ServerSpec(name="local", id="id-local", url="", kind="local", priority=priority))
        await remotes.adopt(specs)
        stack.push_async_callback(remotes.close)
        for host in remotes.fleet.hosts():
            if not host.spec.models:
                name = own.name if own is not None and host.spec.kind == "local" else model
                remotes.fleet.saw(host, Told((Model(name, 0, "", ""),)))
        machine = Machine(*([own] if own else []))
        routes = Routes(remotes, policy=policy)
        finders = Finders(machine, remotes, routes=routes)
        behind = Behind(fakes, own, machine, remotes, routes, finders, Answers(finders), Relays(finders))

        async def look(host_id: str) -> None:
            behind.looked.append(host_id)

        remotes.traffic.look = look
        yield behind
