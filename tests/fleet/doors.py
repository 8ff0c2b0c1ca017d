"""Two gateways on one database, as processes of their own, and a client that knows both.

The rule of that client: where a gateway refuses the connection, or loses it before any byte of an answer came, the
same request goes to the other one. Once a byte has come it goes nowhere: then something is lost if the gateway is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import httpx2
from msgspec import Struct
from tests.acceptance.serving import Served, serve
from tests.fleet.behind import ANSWER
from tests.fleet.hosts import Behind
from tests.postgres import Postgres

MODEL = "fake"
PATIENCE = 60.0  # seconds
LOOK = 0.01  # seconds between two looks whether something has come about


class Gateway:
    """One of them: its home and its address stay the same when it is killed and comes back."""

    def __init__(self, name: str, folder: Path, database: str) -> None:
        self.name = name
        self.home = folder / name
        self.log = folder / f"{name}.log"
        self.url = ""
        self.admin_key = ""
        self._environ = {"LOCALMODELS_DATABASE_URL": database, "LOCALMODELS_LOG_LEVEL": "info"}
        self._stack = ExitStack()
        self._served: Served | None = None

    async def start(self) -> None:
        """Begins, or begins again; returns when it answers."""
        listen = self.url.rpartition("/")[2] or "127.0.0.1:0"
        serving = serve("--require-key", home=self.home, listen=listen, log=self.log, environ=self._environ)
        served = await asyncio.to_thread(self._stack.enter_context, serving)
        self._served, self.url = served, served.url
        self.admin_key = served.admin_key or self.admin_key

    async def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        assert self._served is not None
        self._served.process.kill()
        await asyncio.to_thread(self._served.process.wait)
        await asyncio.to_thread(self._stack.close)

    async def end(self) -> None:
        """Ends it in order: it finishes the answers that it has begun."""
        assert self._served is not None
        self._served.process.terminate()
        assert await asyncio.to_thread(self._served.process.wait) == 0
        await asyncio.to_thread(self._stack.close)

    async def close(self) -> None:
        """Ends it in order, if it lives."""
        await asyncio.to_thread(self._stack.close)


class Asked(Struct):
    """One request for an answer.

    Attributes:
        at, ended: nanoseconds since 1970, when it was sent first, and when it was over.
        wrong: how it ended, in words; empty if well.
        bytes: of its answer, as far as it came.
        tries: how often it was sent.
        first: where it was sent first.
    """

    number: int
    at: int = 0
    ended: int = 0
    wrong: str = ""
    bytes: int = 0
    tries: int = 0
    first: Gateway | None = None


class Doors:
    """The client: of every gateway, with the administrator's key."""

    def __init__(self, gateways: tuple[Gateway, Gateway], clients: Mapping[Gateway, httpx2.AsyncClient]) -> None:
        self.gateways = gateways
        self._clients = clients

    def other(self, gateway: Gateway) -> Gateway:
        """The one that this is not."""
        return next(one for one in self.gateways if one is not gateway)

    async def call(self, gateway: Gateway, method: str, path: str, key: str = "", **body: Any) -> httpx2.Response:
        """Something else than an answer, of one gateway."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return await self._clients[gateway].request(method, path, headers=headers, json=body or None)

    async def called(self, gateway: Gateway, method: str, path: str, **body: Any) -> Any:
        """The same for what must succeed; its answer."""
        answer = await self.call(gateway, method, path, **body)
        assert answer.is_success, f"{method} {path} at {gateway.name}: {answer.status_code} {answer.text}"
        return answer.json()

    async def servers(self, gateway: Gateway) -> dict[str, dict[str, Any]]:
        """All that are registered, as this one knows them, by their ids."""
        rows = (await self.called(gateway, "GET", "/api/servers/"))["servers"]
        return {row["id"]: row for row in rows if row["source"] == "api"}

    async def listed(self, gateway: Gateway) -> dict[str, list[Any]]:
        """What was said of each server, as this one knows it."""
        fields = ("name", "url", "priority", "is_active", "created_at", "updated_at")
        return {id_: [row[field] for field in fields] for id_, row in (await self.servers(gateway)).items()}

    async def targets(self, gateway: Gateway) -> set[str]:
        """The names of the servers to which this one would send a request."""
        answer = await self.call(gateway, "GET", f"/api/route?model={MODEL}")
        assert answer.status_code in {200, 404}, answer.text  # 404: none has the model
        return {target["server"] for target in answer.json().get("targets", ())}

    async def register(self, gateway: Gateway, server: Behind, **more: Any) -> str:
        """Registers a server; its id."""
        row = {"name": server.name, "url": server.url, "kind": "ollama", "max_concurrent": 64, "first_byte": 5, **more}
        return str((await self.called(gateway, "POST", "/api/servers/", **row))["id"])

    async def remove(self, gateway: Gateway, *ids: str) -> None:
        """Takes servers away."""
        for one in ids:
            await self.called(gateway, "DELETE", f"/api/servers/{one}")

    async def all_route(self, *names: str) -> bool:
        """Do both send requests to these, and to nobody else?"""
        return all([await self.targets(gateway) == {*names} for gateway in self.gateways])

    async def ask(self, one: Asked, first: Gateway) -> None:
        """Asks this gateway, and where that comes to nothing the other one."""
        one.at, one.first = time_ns(), first
        for gateway in (first, self.other(first), first):
            one.tries += 1
            try:
                one.wrong = judged(await self._answer(gateway, one))
            except httpx2.TransportError as error:
                one.wrong = f"{type(error).__name__} at {gateway.name} after {one.bytes} bytes: {error}"
                if not one.bytes:
                    continue
            break
        one.ended = time_ns()

    async def _answer(self, gateway: Gateway, one: Asked) -> tuple[int, str]:
        question = [{"role": "user", "content": f"This is number {one.number}."}]
        body = {"model": MODEL, "messages": question, "stream": one.number % 2 == 0}
        text = bytearray()
        async with self._clients[gateway].stream("POST", "/api/chat", json=body) as answer:
            one.bytes += 1  # its head
            async for piece in answer.aiter_bytes():
                text += piece
                one.bytes += len(piece)
            return answer.status_code, text.decode()

    async def load(self, asked: list[Asked], first: int, rate: float, over: asyncio.Event) -> None:
        """Requests at a steady rate, to both gateways in turn, whatever becomes of them; returns when all are over."""
        start, tasks = monotonic(), list[asyncio.Task[None]]()
        while not over.is_set():
            await asyncio.sleep(start + len(tasks) / rate - monotonic())
            one = Asked(first + len(tasks))
            asked.append(one)
            # Streams and whole answers at each of them.
            tasks.append(asyncio.create_task(self.ask(one, self.gateways[one.number // 2 % 2])))
        await asyncio.gather(*tasks)


async def until(true: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> float:
    """Looks again and again until it is true; the seconds that this took."""
    begin = monotonic()
    while not await true():
        assert monotonic() < begin + patience, f"not within {patience:g} s"
        await asyncio.sleep(LOOK)
    return monotonic() - begin


def wrong_of(asked: Iterable[Asked]) -> list[str]:
    """What was wrong, of those that were not answered as they should be."""
    return [f"{one.number}: {one.wrong}" for one in asked if one.wrong]


def judged(answer: tuple[int, str]) -> str:
    """What is wrong with an answer of Ollama's API; empty if nothing is."""
    status, text = answer
    if status != 200:
        return f"{status}: {text[:200]}"
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    if lines[-1].get("done") is not True:
        return f"no end: {text[-200:]}"
    said = "".join(line["message"]["content"] for line in lines)
    return "" if said == ANSWER else f"said {said!r}"


@asynccontextmanager
async def doors(folder: Path, postgres: Postgres) -> AsyncIterator[Doors]:
    """Both gateways over a new database, until the context ends."""
    database = (await asyncio.to_thread(postgres.database)).reveal()
    gateways = Gateway("one", folder, database), Gateway("two", folder, database)
    async with AsyncExitStack() as stack:
        for gateway in gateways:
            stack.push_async_callback(gateway.close)
            await gateway.start()  # one after the other: the first one is told the key
        headers = {"Authorization": f"Bearer {gateways[0].admin_key}"}
        clients = {}
        for gateway in gateways:
            client = httpx2.AsyncClient(
                base_url=gateway.url,
                headers=headers,
                timeout=PATIENCE,
                trust_env=False,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            )
            clients[gateway] = await stack.enter_async_context(client)
        yield Doors(gateways, clients)
