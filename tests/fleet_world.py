"""A fleet in memory: servers that are played, the real connections, monitor and registry over them, and no sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic, time_ns
from types import TracebackType
from typing import Any, Self

from localmodels.backends.http import Pouring, Reply
from localmodels.core.address import Address
from localmodels.core.catalog import Model, Running
from localmodels.core.errors import LocalModelsError, Unreachable
from localmodels.core.fleet import LOCAL, Loads, ModelRow, ServerChange
from localmodels.core.roster import Wish
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.monitor import Monitor, Probe
from localmodels.flows.connections.remotes import Connect, Remotes
from localmodels.flows.servers.membership import Sleep
from localmodels.flows.servers.servers import Servers
from localmodels.flows.servers.unloading import Unloading
from localmodels.flows.visit import Visit
from localmodels.state.kept import Kept
from localmodels.state.memory import MemoryFleet

NAMES = {"gpu.lan": ["192.168.7.7"], "far.example": ["93.184.216.34"], "moved.example": ["93.184.216.35"]}


class Answer:
    """A whole answer."""

    content_type = "application/json"
    headers: Mapping[str, str] = {}
    pouring: Pouring | None = None

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    @property
    def ended(self) -> bool:
        return not self._body

    def streamed(self) -> None: ...

    def begun(self) -> None: ...

    async def piece(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None: ...


class Ollama:
    """An Ollama that is played.

    Attributes:
        models: by name, with the last digits of their digests.
        loaded: those in memory, with their bytes on graphics cards.
        stays: does a model stay in memory when it is told to leave?
        failure: what every question meets; None answers.
        silent: are questions left without an answer?
        context: tokens that its models take, as its list tells.
        asked: every question, as method and path.
        keys: every key that came.
    """

    def __init__(self, **models: int) -> None:
        self.models = {name.replace("_", ":"): digest for name, digest in models.items()}
        self.loaded: dict[str, int] = {}
        self.stays = False
        self.failure: LocalModelsError | None = None
        self.silent = False
        self.context = 0
        self.asked: list[str] = []
        self.keys: list[str] = []

    async def answer(self, method: str, path: str, body: bytes | None) -> Answer:
        self.asked.append(f"{method} {path}")
        if self.silent:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        status, said = self._said(path, json.loads(body or b"{}"))
        return Answer(status, json.dumps(said).encode())

    def _said(self, path: str, asked: Mapping[str, Any]) -> tuple[int, object]:
        match path.partition("?")[0]:
            case "/api/version":
                return 200, {"version": "0.12.0"}
            case "/api/tags":
                return 200, {"models": [self._tag(name) for name in self.models]}
            case "/api/ps":
                rows = [self._tag(name) | {"size_vram": vram} for name, vram in self.loaded.items()]
                return 200, {"models": rows}
            case "/api/generate" if asked["keep_alive"] == 0 and "prompt" not in asked:
                if not self.stays:
                    self.loaded.pop(asked["model"], None)
                return 200, {"model": asked["model"], "response": "", "done": True, "done_reason": "unload"}
            case "/api/show":
                return 200, {"model": asked["model"], "capabilities": ["completion"]}
            case "/v1/models":
                return 200, {"data": [{"id": name} for name in self.models]}
            case _:
                return 404, {"error": f"there is nothing at {path}"}

    def _tag(self, name: str) -> dict[str, Any]:
        digest = f"{self.models.get(name, 0):064x}"
        told = {"capabilities": ["completion"], "modified_at": "2026-01-01T00:00:00Z", "context_length": self.context}
        return {"name": name, "model": name, "size": 5_000, "digest": digest, **told}


class Line:
    """The way to one of them; see :class:`localmodels.backends.http.Carrier`."""

    def __init__(self, world: World, spec: ServerSpec) -> None:
        self._world = world
        self._spec = spec

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        server = self._world.net.get(self._spec.url)
        if server is None:
            raise Unreachable("the server cannot be reached")
        server.keys.append(self._spec.key.reveal())
        return await server.answer(method, path, body)

    async def close(self) -> None: ...


class Store(MemoryFleet):
    """Tables that can break, and tell when models were written.

    Attributes:
        failure: what everything meets; None works.
        written: was anything found written down?
    """

    def __init__(self) -> None:
        super().__init__()
        self.failure: LocalModelsError | None = None
        self.written = asyncio.Event()
        self.read = asyncio.Event()

    async def generation(self) -> int:
        self.read.set()
        if self.failure is not None:
            raise self.failure
        return await super().generation()

    async def keep_models(self, server_id: str, rows: Sequence[ModelRow]) -> None:
        await super().keep_models(server_id, rows)
        self.written.set()


class Others:
    """The other gateways; see :class:`localmodels.core.fleet.Replicas`.

    Attributes:
        ours: is it our turn to write?
        asked: has somebody asked for it?
    """

    def __init__(self) -> None:
        self.ours = True
        self.asked = asyncio.Event()
        self._said: asyncio.Queue[None] = asyncio.Queue()

    def say(self) -> None:
        """Somebody has changed the fleet."""
        self._said.put_nowait(None)

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self._said.get()
            yield

    @asynccontextmanager
    async def reconciling(self) -> AsyncIterator[bool]:
        self.asked.set()
        yield self.ours

    async def publish(self, loads: Loads) -> None: ...

    async def loads(self, since: int) -> Collection[Loads]:
        return ()


class Here:
    """Our own engine, played; see :class:`localmodels.flows.servers.own_engine.Here`.

    Attributes:
        models: that it has, with the bytes they take on graphics cards; None for those that are not in memory.
        moved: those that were loaded anew for the processor.
    """

    def __init__(self) -> None:
        self.models: dict[str, int | None] = {"localmodels:latest": None}
        self.moved: list[str] = []

    async def look(self) -> Told:
        known = {name: Model(name, 5, "ab" * 32, "2026-01-01T00:00:00Z") for name in self.models}
        running = tuple(
            Running(known[name], "running", 7, 5, vram, "", 4096)
            for name, vram in self.models.items()
            if vram is not None
        )
        return Told(tuple(known.values()), "0.9", running, memory_free=1)

    async def unload(self, model: str) -> int | None:
        freed, self.models[model] = self.models[model], None
        return freed

    async def move(self, model: str, visit: Visit) -> int | None:
        freed = self.models[model]
        if freed is not None:
            self.moved.append(model)
            self.models[model] = 0
        return freed


class World:
    """``async with World() as world``.

    Args:
        file: the servers that stand in the file.
        gateway: id of this gateway.
        store: tables in memory, which others may share.
        kept: real tables and gateways instead; then time is real, too.
        connect: real connections instead of those to ``net``.

    Attributes:
        net: the servers that can be reached, by their addresses.
        naps: who waits for time to pass; only :meth:`later` lets it.
        seconds: of the clock that goes by that.
    """

    def __init__(
        self,
        *,
        file: Sequence[ServerSpec] = (),
        gateway: str = "home",
        store: Store | None = None,
        kept: Kept | None = None,
        connect: Connect | None = None,
    ) -> None:
        self.net: dict[str, Ollama] = {}
        self.store = store or Store()
        self.others = Others()
        self.here = Here()
        self.naps: list[asyncio.Future[None]] = []
        self._moment = 10**18
        self.seconds = 0.0
        clock = monotonic if kept else lambda: self.seconds
        sleep: Sleep = asyncio.sleep if kept else self._nap
        self.remotes = Remotes(connect or (lambda spec: Line(self, spec)), Fleet(clock=clock))
        self.monitor = Monitor(self.remotes.fleet, self._probe, clock=clock, sleep=sleep)
        self.servers = Servers(
            kept.fleet if kept else self.store,
            kept.replicas if kept else self.others,
            self.remotes,
            self.monitor,
            gateway=gateway,
            file=file,
            urls=lambda: ["http://127.0.0.1:8000", "http://127.0.0.1:11434"],
            listening=lambda: [Address("127.0.0.1", 8000)],
            lookup=self._lookup,
            now=time_ns if kept else self._now,
            sleep=sleep,
        )
        self.unloading = Unloading(
            self.servers, self.remotes, self.here, sleep=asyncio.sleep if kept else self._at_once
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.monitor)
        await self._stack.enter_async_context(self.servers)
        self._stack.push_async_callback(self.remotes.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def later(self) -> None:
        """Whoever waits for time to pass has waited long enough."""
        self.seconds += 60.0
        naps, self.naps = self.naps, []
        for nap in naps:
            if not nap.done():
                nap.set_result(None)

    async def settled(self) -> None:
        """Returns when nobody can go on unless time passes: no question here takes more turns of the loop."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def add(self, name: str, url: str, ollama: Ollama | None = None, key: str = "", **said: Any) -> str:
        """Registers a server; its id."""
        if ollama is not None:
            self.net[url] = ollama
        wish = Wish(said=ServerChange(name=name, url=url, **said), key=Secret(key) if key else None)
        return (await self.servers.add(wish)).row.id

    def _probe(self, host: Host) -> Probe | None:
        if host.spec.kind == LOCAL:
            return self.here
        server = self.remotes.at(host)
        return server.far if server else None

    async def _nap(self, seconds: float) -> None:
        nap: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.naps.append(nap)
        await nap

    async def _at_once(self, seconds: float) -> None: ...

    async def _lookup(self, host: str, port: int) -> Sequence[str]:
        if host not in NAMES:
            raise OSError(f"nobody knows {host}")
        return NAMES[host]

    def _now(self) -> int:
        self._moment += 1
        return self._moment
