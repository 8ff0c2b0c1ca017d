"""Eight clients that do to one server what clients do, at random, and write down what they were answered.

A version is a number, and the system prompt of a model of version ``n`` says so and is by ``n`` characters longer than
the shortest: so the number can be read from a description, from the size in a list, and from the digests that a pull or
a push tells. The rule: whatever is answered must be one of the answers that the operation has; anything else (a 500,
say) is a defect.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from msgspec import Struct
from tests.histories.linear import Op, linearizable, versions
from tests.registry.models import Model, layer, stock
from tests.registry.server import DOCKER, Registry

from localmodels.store.model_store import ModelStore

CLIENTS = 8
LOCAL = ("a", "b", "c", "team/a")
TAGS = ("x", "y")
BASE = "base"  # the model whose weights all of them have; nobody changes it
FIRST_STOCKED = 100_000  # versions that a registry has from the beginning
ANSWER = {"num_predict": 1}
CONFIG = b'{"model_format":"gguf","model_family":"llama","model_type":"1M","file_type":"F32"}'

_VERSION = re.compile(r"version (\d+) ")


def text_of(version: int) -> str:
    """The system prompt of a version, as many characters long as its number has and then some."""
    head = f"version {version} "
    return head + "." * (version % FIRST_STOCKED + 1000 - len(head))


def packed(weights: bytes, version: int) -> Model:
    """A model of a version, as a registry has it."""
    system = text_of(version).encode()
    layers = [
        layer("application/vnd.ollama.image.model", weights),
        layer("application/vnd.ollama.image.system", system),
    ]
    config = layer("application/vnd.docker.container.image.v1+json", CONFIG)
    document = {"schemaVersion": 2, "mediaType": DOCKER, "config": config, "layers": layers}
    return Model(json.dumps(document).encode(), (CONFIG, weights, system))


class Seen(Struct):
    """One step of one client, as it was seen: what was done to which name, and, of a copy, from which other one.

    Attributes:
        registry: what was done to the registry's name beside it: a pull read it, a push wrote it.
    """

    name: str
    op: Op
    source: str = ""
    registry: Op | None = None


class Wrong(Exception):
    """An answer that the operation does not have."""


class Clients:
    """Those who ask, and what they saw.

    Args:
        registry: what pulls and pushes go to; stocked here.
        root: of the server's store, for collections by another process.
        weights: of every model, which the server has as a blob.

    Attributes:
        url: of the server. It may change: one that is killed starts again elsewhere.
        done: steps that were begun; ``begun`` is set with the last of those that are asked for.
    """

    def __init__(self, registry: Registry, root: Path, weights: bytes, seed: int) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.done = 0
        self.begun = asyncio.Event()
        self._seed = seed
        self._store = ModelStore(root)
        self._digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
        self._system: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        self._version = 0
        self.remote = tuple(f"127.0.0.1:{registry.port}/library/tiny:{tag}" for tag in TAGS)
        self.stocked = {name: FIRST_STOCKED + place for place, name in enumerate(self.remote)}
        for tag, version in zip(TAGS, self.stocked.values(), strict=True):
            stocked = packed(weights, version)
            stock(registry, stocked, tags=(tag,))
            self._learn(version)
            self._sizes[sum(blob.size for blob in stocked.blobs)] = version
        self._created = len(weights)  # and the config, which is learnt from the base

    async def prepare(self, client: aiohttp.ClientSession) -> None:
        """Makes the base, and learns from it how large a model is beside its system prompt."""
        version = self._new()
        await self._post(client, "/api/create", {"model": BASE, "files": {"a.gguf": self._digest}, "stream": False,
                                                 "system": text_of(version)})  # fmt: skip
        listed = await self._listed(client)
        self._created = listed[f"{BASE}:latest"] - len(text_of(version))
        self._version = 0

    async def live(self, steps: int) -> None:
        """So many steps by all clients together.

        Raises:
            Wrong: an answer that an operation does not have.
        """
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
            if not self._version:
                await self.prepare(client)
            until = self.done + steps
            self.begun.clear()
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    chance = random.Random(f"{self._seed} {number} {until}")
                    group.create_task(self._live(client, chance, until))

    def wrong(self) -> list[str]:
        """The names whose history cannot have been."""
        history: dict[str, list[Op]] = {}
        for name, seen in self._resolved():
            history.setdefault(name, []).append(seen)
        before = {f"registry {name}": version for name, version in self.stocked.items()}
        return [name for name, ops in history.items() if not linearizable(ops, before.get(name))]

    def _resolved(self) -> list[tuple[str, Op]]:
        """Every operation under its name; of copies it is now known what they may have found."""
        among: dict[int, frozenset[int]] = {}
        found = {seen.op.number: seen for seen in self.seen if seen.op.kind == "copy"}
        known: dict[str, list[Op]] = {}
        for seen in self.seen:
            known.setdefault(seen.name, []).append(seen.op)
        # What a copy may have found may itself have been copied: each round follows that one step further.
        for _ in range(len(found) + 1):
            filled = {
                name: [_with(op, among.get(op.number, frozenset())) if op.kind == "copy" else op for op in ops]
                for name, ops in known.items()
            }
            after = {number: versions(seen.op, filled.get(seen.source, [])) for number, seen in found.items()}
            if after == among:
                break
            among = after
        told = [(name, op) for name, ops in filled.items() for op in ops]
        return told + [(f"registry {seen.name}", seen.registry) for seen in self.seen if seen.registry]

    async def _live(self, client: aiohttp.ClientSession, chance: random.Random, until: int) -> None:
        kinds, weights = zip(*WEIGHTS.items(), strict=True)
        while self.done < until:
            self.done += 1
            if self.done == until:
                self.begun.set()
            name = chance.choice((*LOCAL, *self.remote))
            [kind] = chance.choices(kinds, weights)
            await OPERATIONS[kind](self, client, name, chance)

    # The operations. Each notes what it saw.

    async def create(self, client: aiohttp.ClientSession, name: str, _chance: random.Random) -> None:
        await self._create(client, name, {"files": {"a.gguf": self._digest}})

    async def derive(self, client: aiohttp.ClientSession, name: str, _chance: random.Random) -> None:
        await self._create(client, name, {"from": BASE})

    async def copy(self, client: aiohttp.ClientSession, name: str, chance: random.Random) -> None:
        source = chance.choice((*LOCAL, *self.remote))
        began = monotonic()
        status, answer = await self._ask(client, "/api/copy", {"source": source, "destination": name})
        if status == 404:
            self._note(source, "read", began)
        elif status in {200, None}:
            if status:
                self._note(source, "some", began)
            self._note(name, "copy", began, sure=status is not None, source=source)
        else:
            raise Wrong(f"copy {source} {name}: {status} {answer!r}")

    async def delete(self, client: aiohttp.ClientSession, name: str, _chance: random.Random) -> None:
        began = monotonic()
        status, answer = await self._ask(client, "/api/delete", {"model": name}, method="DELETE")
        if status not in {200, 404, None}:
            raise Wrong(f"delete {name}: {status} {answer!r}")
        self._note(name, "remove", began, None if status == 404 else 1, sure=status is not None)

    async def show(self, client: aiohttp.ClientSession, name: str, _chance: random.Random) -> None:
        began = monotonic()
        status, answer = await self._ask(client, "/api/show", {"model": name})
        if status == 200:
            told = _VERSION.search(json.loads(answer)["modelfile"])
            assert told is not None
            self._note(name, "read", began, int(told[1]))
        elif status == 404:
            self._note(name, "read", began)
        elif status is not None:
            raise Wrong(f"show {name}: {status} {answer!r}")

    async def list(self, client: aiohttp.ClientSession, _name: str, _chance: random.Random) -> None:
        began = monotonic()
        listed = await self._listed(client)
        ended = monotonic()
        for name in (*LOCAL, *self.remote) if listed else ():
            size = listed.get(name if ":" in name.rpartition("/")[2] else f"{name}:latest")
            self._note(name, "read", began, None if size is None else self._of_size(size), ended=ended)

    async def pull(self, client: aiohttp.ClientSession, _name: str, chance: random.Random) -> None:
        name = chance.choice(self.remote)
        began = monotonic()
        end, version = await self._moved(client, "/api/pull", name)
        if end == "success" or version is not None:
            read = Op("read", began, inf if end is None else monotonic(), value=version)
            self._note(name, "write", began, version, sure=end is not None, registry=read if end else None)
        if end not in {"success", None}:
            raise Wrong(f"pull {name}: {end}")

    async def push(self, client: aiohttp.ClientSession, _name: str, chance: random.Random) -> None:
        name = chance.choice(self.remote)
        began = monotonic()
        end, version = await self._moved(client, "/api/push", name)
        if end == "success":
            written = Op("write", began, monotonic(), value=version)
            self._note(name, "read", began, version, registry=written)
        elif end is None and version is not None:
            self._note(name, "read", began, version, registry=Op("write", began, inf, value=version))
        elif end is not None and "not found" in end:
            self._note(name, "read", began)
        elif end is not None:
            raise Wrong(f"push {name}: {end}")

    async def upload(self, client: aiohttp.ClientSession, _name: str, chance: random.Random) -> None:
        content = chance.randbytes(chance.randrange(20_000))
        place = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
        status, _ = await self._ask(client, place, content)
        if status not in {201, None}:
            raise Wrong(f"upload: {status}")
        there, _ = await self._ask(client, place, b"", method="HEAD")
        if status == 201 and there not in {200, None}:
            raise Wrong(f"a blob that was uploaded: {there}")

    async def chat(self, client: aiohttp.ClientSession, name: str, _chance: random.Random) -> None:
        began = monotonic()
        asked = {"model": name, "prompt": "a", "raw": True, "stream": False, "options": ANSWER, "keep_alive": 0}
        status, answer = await self._ask(client, "/api/generate", asked)
        if status in {200, 404}:
            self._note(name, "some" if status == 200 else "read", began)
        elif status is not None:
            raise Wrong(f"generate {name}: {status} {answer!r}")

    async def collect(self, _client: aiohttp.ClientSession, _name: str, _chance: random.Random) -> None:
        """As ``localmodels store gc`` in another process."""
        await asyncio.to_thread(self._store.collect)

    # How they ask.

    async def _create(self, client: aiohttp.ClientSession, name: str, fields: Mapping[str, Any]) -> None:
        version = self._new()
        began = monotonic()
        asked = {"model": name, "system": text_of(version), "stream": False, **fields}
        status, answer = await self._ask(client, "/api/create", asked)
        if status not in {200, None}:
            raise Wrong(f"create {name}: {status} {answer!r}")
        self._note(name, "write", began, version, sure=status is not None)

    async def _moved(self, client: aiohttp.ClientSession, path: str, name: str) -> tuple[str | None, int | None]:
        """How a pull or a push ended (None: the server did), and which version it was of."""
        version, last = None, None
        try:
            async with client.post(self.url + path, json={"model": name, "insecure": True}) as answer:
                async for step in lines(answer):
                    version = self._system.get(step.get("digest", ""), version)
                    last = step.get("status") or step["error"]
        except (aiohttp.ClientError, ConnectionError):
            last = last if last == "success" else None
        return last, version

    async def _ask(
        self, client: aiohttp.ClientSession, path: str, body: Mapping[str, Any] | bytes, *, method: str = "POST"
    ) -> tuple[int | None, bytes]:
        """Status and body; no status where the server ended meanwhile."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            async with client.request(method, self.url + path, data=data) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, ConnectionError):
            return None, b""

    async def _post(self, client: aiohttp.ClientSession, path: str, body: Mapping[str, Any]) -> bytes:
        status, answer = await self._ask(client, path, body)
        if status != 200:
            raise Wrong(f"{path}: {status} {answer!r}")
        return answer

    async def _listed(self, client: aiohttp.ClientSession) -> dict[str, int]:
        """Names and sizes; nothing where the server ended meanwhile."""
        status, answer = await self._ask(client, "/api/tags", b"", method="GET")
        return {row["name"]: row["size"] for row in json.loads(answer)["models"]} if status == 200 else {}

    def _new(self) -> int:
        self._version += 1
        self._learn(self._version)
        return self._version

    def _learn(self, version: int) -> None:
        self._system[f"sha256:{hashlib.sha256(text_of(version).encode()).hexdigest()}"] = version

    def _of_size(self, size: int) -> int:
        return self._sizes.get(size, size - self._created - 1000)

    def _note(
        self,
        name: str,
        kind: Any,
        began: float,
        value: int | None = None,
        *,
        sure: bool = True,
        source: str = "",
        ended: float = 0.0,
        registry: Op | None = None,
    ) -> None:
        end = (ended or monotonic()) if sure else inf
        self.seen.append(Seen(name, Op(kind, began, end, len(self.seen) + 1, value), source, registry))


async def lines(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The steps of a stream of progress, or its one error."""
    async for line in answer.content:
        yield json.loads(line)


def _with(op: Op, among: frozenset[int]) -> Op:
    return Op(op.kind, op.began, op.ended, op.number, op.value, among)


Operation = Callable[[Clients, aiohttp.ClientSession, str, random.Random], Awaitable[None]]
OPERATIONS: Mapping[str, Operation] = {
    "create": Clients.create,
    "derive": Clients.derive,
    "copy": Clients.copy,
    "delete": Clients.delete,
    "show": Clients.show,
    "list": Clients.list,
    "pull": Clients.pull,
    "push": Clients.push,
    "upload": Clients.upload,
    "chat": Clients.chat,
    "collect": Clients.collect,
}
# How often each is done, of 100 times; a chat loads a model, which takes as long as a hundred of the others.
WEIGHTS = {"create": 14, "derive": 5, "copy": 15, "delete": 15, "show": 22, "list": 8, "pull": 7, "push": 4,
           "upload": 5, "collect": 4.5, "chat": 0.5}  # fmt: skip
