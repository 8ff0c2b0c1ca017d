"""A registry of our own: honest by itself, and lying where a rule says so.

Its honesty is put to the same suite as the real one's (``tests/contract/test_registry.py``), so that a lie differs from
the truth in one thing alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Literal, Self

from msgspec import Struct
from tests.registry.wire import Asked, Hangup, Reply, hang_up, read_body, read_head, write_reply

USER, PASSWORD = "ollie", "sesame"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"

Kind = Literal["ping", "token", "manifest", "blob", "uploads", "upload", "other"]
Login = Literal["none", "basic", "bearer"]


class Visit(Struct):
    """A request that came, and what it was for."""

    kind: Kind
    asked: Asked


Change = Callable[[Asked, Reply], Reply]


class Rule(Struct):
    """Changes honest answers.

    Attributes:
        to: which requests; ``method`` empty for every one.
        times: how many of them, the first ones.
        to_strangers: answers those that are not let in, and not the others.
        instead: nothing is done that was asked for; else it is done, and only the answer lies.
        reads: bytes of the request's body that are read before the connection is cut; None for all.
    """

    to: Kind
    change: Change = lambda _asked, reply: reply
    method: str = ""
    times: int = 10**9
    to_strangers: bool = False
    instead: bool = False
    reads: int | None = None

    def fits(self, kind: Kind, asked: Asked, known: bool) -> bool:
        return (
            self.to == kind and self.method in {"", asked.method} and self.times > 0 and self.to_strangers is not known
        )


class Registry:
    """``async with Registry() as registry: … registry.url``.

    Attributes:
        visits: every request, in its order.
        blobs: by ``sha256:…``; manifests by ``repository:reference``.
    """

    def __init__(
        self, *rules: Rule, login: Login = "none", realm: str = "", tls: ssl.SSLContext | None = None, host: str = ""
    ) -> None:
        self.rules = list(rules)
        self.visits: list[Visit] = []
        self.blobs: dict[str, bytes] = {}
        self.linked: set[tuple[str, str]] = set()
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.tokens: dict[str, str] = {}
        self.connects = 0
        self._login = login
        self._realm = realm
        self._tls = tls
        self._host = host or "127.0.0.1"
        self._connections: set[asyncio.Task[None]] = set()
        self._numbers = count(1)
        self._busy = 0
        self._idle = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    async def idle(self) -> None:
        """Until no request waits for its answer."""
        await self._idle.wait()

    def put(self, content: bytes, repository: str = "library/tiny") -> str:
        """Has this blob; gives its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        self.linked.add((repository, digest))
        return digest

    def count(self, kind: Kind, method: str = "") -> int:
        """How many requests of a kind came."""
        return sum(visit.kind == kind and method in {"", visit.asked.method} for visit in self.visits)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connects += 1
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (asked := await read_head(reader)) is not None:
            self._work(1)
            try:
                await self._reply(reader, writer, asked)
            except Hangup as hangup:
                hang_up(writer, reset=hangup.reset)
                return
            finally:
                self._work(-1)

    def _work(self, more: int) -> None:
        self._busy += more
        if self._busy:
            self._idle.clear()
        else:
            self._idle.set()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked) -> None:
        kind, repository, reference = parse(asked.path)
        knows_us = kind == "token" or self._lets_in(asked)
        rule = next((rule for rule in self.rules if rule.fits(kind, asked, knows_us)), None)
        if rule:
            rule.times -= 1
        reads = rule.reads if rule else None
        asked.body = await read_body(reader, asked.size if reads is None else min(reads, asked.size))
        self.visits.append(Visit(kind, asked))
        honest = rule is None or not rule.instead
        reply = self._answer(kind, repository, reference, asked) if honest else Reply()
        if reads is not None:
            raise Hangup(reset=True)
        await write_reply(reader, writer, asked, rule.change(asked, reply) if rule else reply)

    # The honest answers.

    def _answer(self, kind: Kind, repository: str, reference: str, asked: Asked) -> Reply:
        if kind == "token":
            return self._token(asked)
        if not self._lets_in(asked):
            return Reply(401, {"WWW-Authenticate": self._challenge(repository)})
        answers = {
            "ping": self._ping,
            "manifest": self._manifest,
            "blob": self._blob,
            "uploads": self._begin,
            "upload": self._upload,
        }
        return answers[kind](repository, reference, asked) if kind in answers else failure(404, "NOT_FOUND")

    def _lets_in(self, asked: Asked) -> bool:
        said = asked.headers.get("authorization", "")
        return {"none": True, "basic": said == BASIC, "bearer": said.removeprefix("Bearer ") in self.tokens}[
            self._login
        ]

    def _challenge(self, repository: str) -> str:
        if self._login == "basic":
            return 'Basic realm="a, \\"quoted\\" place"'
        scope = f',scope="repository:{repository}:pull,push"' if repository else ""
        return f'Bearer realm="{self._realm or self.url + "/token"}",service="tests"{scope}'

    def _token(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != BASIC:
            return failure(401, "UNAUTHORIZED")
        token = f"token-{len(self.tokens) + 1}-of-{self.port}"
        self.tokens[token] = asked.query.get("scope", "")
        return Reply(body=json.dumps({"token": token, "expires_in": 300}).encode())

    def _ping(self, _repository: str, _reference: str, _asked: Asked) -> Reply:
        return Reply(body=b"{}")

    def _manifest(self, repository: str, reference: str, asked: Asked) -> Reply:
        if asked.method == "PUT":
            digest = f"sha256:{hashlib.sha256(asked.body).hexdigest()}"
            for one in (reference, digest):
                self.manifests[f"{repository}:{one}"] = (asked.headers.get("content-type", DOCKER), asked.body)
            return Reply(201, {"Docker-Content-Digest": digest, "Location": asked.path})
        if (found := self.manifests.get(f"{repository}:{reference}")) is None:
            return failure(404, "MANIFEST_UNKNOWN")
        media_type, data = found
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, data)

    def _blob(self, repository: str, reference: str, asked: Asked) -> Reply:
        if (repository, reference) not in self.linked:
            return failure(404, "BLOB_UNKNOWN")
        content = self.blobs[reference]
        headers = {"Docker-Content-Digest": reference, "Content-Type": "application/octet-stream"}
        if asked.method == "HEAD":
            return Reply(200, {**headers, "Content-Length": str(len(content))})
        if asked.range is None:
            return Reply(200, headers, content)
        start, stop = asked.range
        stop = min(stop, len(content))
        if start >= stop:
            return Reply(416, {"Content-Range": f"bytes */{len(content)}"})
        return Reply(206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}, content[start:stop])

    def _begin(self, repository: str, _reference: str, asked: Asked) -> Reply:
        mounted, source = asked.query.get("mount", ""), asked.query.get("from", "")
        if (source, mounted) in self.linked:
            self.linked.add((repository, mounted))
            return Reply(201, {"Location": f"/v2/{repository}/blobs/{mounted}"})
        name = f"u{next(self._numbers)}"
        self.uploads[name] = bytearray()
        return self._state(202, repository, name)

    def _upload(self, repository: str, name: str, asked: Asked) -> Reply:
        data = self.uploads.get(name)
        if data is None:
            return failure(404, "BLOB_UPLOAD_UNKNOWN")
        if asked.method == "DELETE":
            del self.uploads[name]
            return Reply(204)
        if asked.method in {"PATCH", "PUT"} and asked.size:
            first = asked.headers.get("content-range", "").partition("-")[0]
            if first and int(first) != len(data):
                return failure(416, "RANGE_INVALID")
            data += asked.body
        if asked.method != "PUT":
            return self._state(204 if asked.method == "GET" else 202, repository, name)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if asked.query.get("digest") != digest:
            return failure(400, "DIGEST_INVALID")
        self.put(bytes(data), repository)
        del self.uploads[name]
        return Reply(201, {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _state(self, status: int, repository: str, name: str) -> Reply:
        last = max(0, len(self.uploads[name]) - 1)
        where = f"/v2/{repository}/blobs/uploads/{name}?_state=a%2Fb"
        return Reply(status, {"Location": where, "Range": f"0-{last}"})


def parse(path: str) -> tuple[Kind, str, str]:
    """What a path asks for: its kind, the repository, and a tag, digest or upload."""
    parts = path.strip("/").split("/")
    match parts:
        case ["v2"]:
            return "ping", "", ""
        case ["token"]:
            return "token", "", ""
        case ["v2", namespace, name, "manifests", reference]:
            return "manifest", f"{namespace}/{name}", reference
        case ["v2", namespace, name, "blobs", "uploads"]:
            return "uploads", f"{namespace}/{name}", ""
        case ["v2", namespace, name, "blobs", "uploads", upload]:
            return "upload", f"{namespace}/{name}", upload
        case ["v2", namespace, name, "blobs", digest]:
            return "blob", f"{namespace}/{name}", digest
    return "other", "", ""


def failure(status: int, code: str) -> Reply:
    """An error in the protocol's form."""
    body = json.dumps({"errors": [{"code": code, "message": f"{code.lower()} here"}]}).encode()
    return Reply(status, {"Content-Type": "application/json"}, body)
