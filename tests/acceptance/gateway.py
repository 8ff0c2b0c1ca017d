"""Our whole server on a loopback port of this process, with fake servers behind it, and a client that judges answers.

The client reads JSON by itself and shares no code with the dialects, so that no mistake of theirs can hide.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import Struct
from tests.everybody import Everybody

from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.fake.script import Choose, Request, Sleep
from localmodels.backends.http import Http
from localmodels.backends.internet import Internet
from localmodels.backends.remote import Remote
from localmodels.backends.round_trip import Patience
from localmodels.core.access import ANYBODY, Caller
from localmodels.core.address import Address
from localmodels.core.catalog import Description, Model, ModelName, Running
from localmodels.core.chat import ChatRequest
from localmodels.core.errors import ModelNotFound, Unsupported
from localmodels.dialects.table import DIALECTS
from localmodels.fleet.monitor import Monitor
from localmodels.flows.access.keys import Issuer, Keyring
from localmodels.flows.access.ledger import Ledger
from localmodels.flows.answering.chat import Answerer, Answers, Defaults
from localmodels.flows.answering.rerank import Ranker
from localmodels.flows.answering.responses import ResponseFlow
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.deploy.deploys import Deploys
from localmodels.flows.deploy.uploads import Uploads
from localmodels.flows.fleet_library.fan_out import Everywhere
from localmodels.flows.fleet_library.local_library import Own
from localmodels.flows.health.inspection import Condition
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.library.transfers import Transfers
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.servers.servers import Servers
from localmodels.flows.servers.unloading import Unloading
from localmodels.flows.tasks.tasks import Tasks
from localmodels.flows.visit import Visit
from localmodels.registry import auth
from localmodels.registry.addresses import Registries
from localmodels.registry.credentials import MemoryCredentials
from localmodels.registry.distribution import Distribution
from localmodels.registry.hub import Hub, HubTokens
from localmodels.registry.outbound import Outbound
from localmodels.server import listeners
from localmodels.server.app import Access, Application
from localmodels.server.deploys import Deploying
from localmodels.server.gate import Gate
from localmodels.server.http import run
from localmodels.server.listings import Listings
from localmodels.server.management import Management
from localmodels.server.metrics.meter import Meter
from localmodels.server.metrics.scrape import Scrape
from localmodels.server.parts import Parts
from localmodels.server.route import Route
from localmodels.server.rows import table
from localmodels.server.servers import ServerRoutes
from localmodels.server.status import Status
from localmodels.server.tokens import Tokens
from localmodels.state.alone import Alone
from localmodels.state.memory import MemoryFleet, MemoryKeys, MemoryTasks, MemoryUsage
from localmodels.store.artifacts import ArtifactStore
from localmodels.store.entries import Entry
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore

PATIENT = Patience(connect=10.0, first_byte=60.0, idle=60.0)
# For models whose name says so; a stall need not take longer to be one.
HASTY = Patience(connect=10.0, first_byte=0.05, idle=0.05)
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}


class Upstream(Remote):
    """A remote server as the flows want it; what only an engine of ours can do is refused."""

    async def count(self, request: ChatRequest) -> int:
        raise Unsupported("a remote server counts nothing")

    async def render(self, request: ChatRequest) -> str:
        raise Unsupported("a remote server renders nothing")

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        raise Unsupported("a remote server tokenizes nothing")

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        raise Unsupported("a remote server detokenizes nothing")


class Borrowed:
    """A model at a remote server."""

    defaults = Defaults()
    capabilities = ("completion", "tools")
    adapters: tuple[str, ...] = ()
    listed = True

    def __init__(self, name: str, backend: Answerer) -> None:
        self.name = name
        self._backend = backend

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        yield self._backend

    async def load(self, request: Request, visit: Visit) -> None:
        raise Unsupported("not ours to load")

    async def unload(self) -> str:
        raise Unsupported("not ours to unload")


class Registry:
    """Finds ``DIALECT/PATIENCE/ANYTHING`` at the server that speaks this dialect; lists nothing."""

    def __init__(self, backends: Mapping[str, Answerer]) -> None:
        self._backends = backends

    async def find(self, name: str) -> Borrowed:
        backend = self._backends.get(name.rpartition("/")[0])
        if backend is None:
            raise ModelNotFound(name)
        return Borrowed(name, backend)

    async def models(self, caller: Caller = ANYBODY, *, choices: bool = False) -> tuple[Model, ...]:
        return ()

    async def describe(self, name: str, *, verbose: bool, caller: Caller = ANYBODY) -> Description:
        raise ModelNotFound(name)

    def running(self, caller: Caller = ANYBODY) -> tuple[Running, ...]:
        return ()

    async def unload(self, entry: Entry) -> None: ...

    async def unload_name(self, name: ModelName) -> None: ...

    async def inspect(self, *, verbose: bool) -> Condition:
        return Condition(status="healthy", model_ready=True, default_model="", models=())

    async def default_name(self) -> str:
        return ""


class World(Struct):
    """Everything that runs: ``server`` is what stands behind our own server at ``port``."""

    port: int
    server: FakeServer
    client: aiohttp.ClientSession


@asynccontextmanager
async def world(script: Script | Choose, *, sleep: Sleep = asyncio.sleep) -> AsyncIterator[World]:
    """A fake server, ours in front of it, and a client of ours."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeServer(script, sleep=sleep))
        backends: dict[str, Answerer] = {}
        for name, dialect in DIALECTS.items():
            for word, patience in {"patient": PATIENT, "hasty": HASTY}.items():
                upstream = Upstream(Http(Internet(server.url, patience=patience), dialect.read_error), dialect)
                stack.push_async_callback(upstream.close)
                backends[f"{name}/{word}"] = upstream
        port = await stack.enter_async_context(serving(application(Registry(backends))))
        connector = aiohttp.TCPConnector(limit=0)
        client = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield World(port, server, client)


class NoEngine:
    """Nothing is in its memory."""

    async def unload(self, model: str) -> None: ...

    async def move(self, model: str, visit: Visit) -> None: ...


def application(registry: Registry, access: Access | None = None) -> Application:
    """Our server; without ``access`` everybody may do everything."""
    answers = Answers(registry)
    store, outbound = ModelStore(Path("nowhere")), Outbound()
    tokens = auth.RegistryTokens(outbound, MemoryCredentials())
    hub = Hub(outbound, HubTokens(MemoryCredentials()))
    transfers = Transfers(store, Library(()), Distribution(outbound, tokens), hub, Registries())
    keeper = Keeper(store, Library(()), registry)
    ring = Keyring()
    tasks, uploads = Tasks(MemoryTasks()), Uploads(ArtifactStore(Path("nowhere/artifacts")))
    deploys = Deploys(uploads, lambda wanted: keeper.create(wanted.create), lambda servers: ())
    remotes, fleet = Remotes(), MemoryFleet()
    monitor = Monitor(remotes.fleet, lambda host: None)
    servers = Servers(fleet, Alone(fleet.generation), remotes, monitor, gateway="nobody")
    parts = Parts(
        everywhere=Everywhere(Own(keeper, transfers, registry), tuple, keeper.lent),
        servers=ServerRoutes(servers, Unloading(servers, remotes, NoEngine())),
        route=Route(Finders(registry, remotes)),
        answers=answers,
        responses=ResponseFlow(answers, None),
        management=Management(Issuer(MemoryKeys(), ring), Ledger(MemoryUsage(), ring)),
        deploying=Deploying(uploads, tasks, deploys.check),
        tasks=tasks,
        ranker=Ranker(registry, registry.models),
        listings=Listings(registry, answers),
        status=Status(registry.inspect, list),
        tokens=Tokens(answers, registry.default_name),
        keeper=keeper,
        require_here=lambda name: None,
        scrape=Scrape(Meter(), []),
    )
    return Application(table(parts), Gate(), access or Everybody())


@asynccontextmanager
async def serving(application: Application) -> AsyncIterator[int]:
    """The port on which it is served, by the same few lines as in earnest; SIGTERM ends it, as it does there."""
    sockets = listeners.bind([Address("127.0.0.1", 0)], asked=True)
    ready = asyncio.Event()
    task = asyncio.ensure_future(run(application, sockets, drain=1, ready=ready.set, draining=lambda: None))
    await ready.wait()
    try:
        yield sockets[0].getsockname()[1]
    finally:
        signal.raise_signal(signal.SIGTERM)
        await task


class Heard(Struct):
    """What a client makes of an answer.

    Attributes:
        success: any sign that the answer is complete: ``done: true``, a ``finish_reason``, ``[DONE]``.
        error: the message of an error, in whichever place.
        after: was anything said after the error?
    """

    status: int
    text: str = ""
    success: bool = False
    error: str = ""
    after: bool = False


async def ask(world: World, dialect: str, model: str, *, stream: bool) -> Heard:
    """Asks and judges."""
    url = f"http://127.0.0.1:{world.port}{PATHS[dialect]}"
    async with world.client.post(url, json=question(model, stream=stream)) as response:
        body = await response.read()
        return judged(response.status, [json.loads(body)] if response.status != 200 else MESSAGES[dialect](body))


def question(model: str, *, stream: bool) -> dict[str, Any]:
    """The same in both dialects."""
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello?"}]}


def judged(status: int, messages: list[Any]) -> Heard:
    """What a reader of these messages believes."""
    heard = Heard(status)
    for message in messages:
        heard.after = heard.after or bool(heard.error)
        if message == "[DONE]":
            heard.success = True
            continue
        choice: dict[str, Any] = next(iter(message.get("choices", ())), {})
        said = message.get("message") or choice.get("delta") or choice.get("message") or {}
        heard.text += said.get("content") or ""
        heard.success = heard.success or message.get("done") is True or choice.get("finish_reason") is not None
        error = message.get("error", "")
        heard.error = heard.error or (error["message"] if isinstance(error, dict) else error)
    return heard


def lines(body: bytes) -> list[Any]:
    """Messages of NDJSON, or the one of a whole answer. A line that is no JSON is a defect of ours."""
    return [json.loads(line) for line in body.splitlines()]


def events(body: bytes) -> list[Any]:
    """Messages of server-sent events, or the one of a whole answer. Anything else is a defect of ours."""
    if body.startswith(b"{"):
        return [json.loads(body)]
    frames = body.split(b"\n\n")
    assert frames.pop() == b""
    assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames)
    return [text if (text := frame[6:].decode()) == "[DONE]" else json.loads(text) for frame in frames]


MESSAGES = {"ollama": lines, "openai": events}
