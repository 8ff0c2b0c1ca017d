"""A hub of our own, which speaks HTTP as Hugging Face's does: the interface of repositories, and the storage behind it.

It is honest, and lies where a rule says so. That it is a hub at all is judged by Hugging Face's own client
(``tests/contract/test_hub.py``). What it does as theirs does, by their documentation and by what their client expects:

- a file in LFS is a redirect to a storage on another origin, with a signature that ends at some moment; a small file
  is a redirect to a cache on the same origin;
- a repository that nobody may see and one that is not there are one and the same 401 to somebody unknown;
- the storage refuses whoever says a login to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from msgspec import Struct
from tests.registry.wire import Asked, Hangup, Reply, hang_up, read_head, write_reply

TOKEN = "hf_" + "a" * 34
STRANGER = "hf_" + "b" * 34  # of somebody who has no access

Kind = Literal["api", "who", "resolve", "cache", "storage"]
Change = Callable[[Asked, Reply], Reply]


class Rule(Struct):
    """Changes honest answers to requests of a kind, the first so many."""

    to: Kind
    change: Change
    times: int = 10**9


class Content(Struct):
    """A file of a repository."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_id(self) -> str:
        """Of the file, or of the pointer that stands for it."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        data = pointer.encode() if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Visit(Struct):
    """A request that came, and what it was for."""

    kind: Kind
    asked: Asked


class Hub:
    """``async with Hub() as hub: hub.put("me/repo", "m-Q8_0.gguf", data); … hub.url``.

    Attributes:
        private, gated: repositories that only the owner of ``TOKEN`` may see, or fetch from.
        bare: the lists of files tell no sizes and digests, as those of some mirrors.
        visits: every request, in its order.
        epoch: of signatures; those of an earlier one are refused.
    """

    def __init__(self, *rules: Rule) -> None:
        self.rules = list(rules)
        self.repositories: dict[str, dict[str, Content]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.bare = False
        self.visits: list[Visit] = []
        self.epoch = 0
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._servers = [await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20) for _ in range(2)]
        self.url, self.storage = (f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in self._servers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for task in tuple(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def put(self, repository: str, path: str, data: bytes, *, lfs: bool = True) -> str:
        """Commits a file; gives its digest."""
        content = Content(data, lfs)
        self.repositories.setdefault(repository, {})[path] = content
        return f"sha256:{content.sha256}"

    def commit(self, repository: str) -> str:
        """The newest one of a repository; another for other files."""
        files = self.repositories[repository]
        text = "".join(f"{path} {files[path].sha256}\n" for path in sorted(files))
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def count(self, kind: Kind) -> int:
        """How many requests of a kind came."""
        return sum(visit.kind == kind for visit in self.visits)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        is_storage = writer.get_extra_info("sockname") == self._servers[1].sockets[0].getsockname()
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                while (asked := await read_head(reader)) is not None:
                    kind, reply = self._reply(asked, is_storage=is_storage)
                    self.visits.append(Visit(kind, asked))
                    rule = next((rule for rule in self.rules if rule.to == kind and rule.times > 0), None)
                    if rule is not None:
                        rule.times -= 1
                        reply = rule.change(asked, reply)
                    await write_reply(reader, writer, asked, reply)
        except Hangup as hangup:
            hang_up(writer, reset=hangup.reset)
        finally:
            self._connections.discard(task)
            writer.close()

    def _reply(self, asked: Asked, *, is_storage: bool) -> tuple[Kind, Reply]:
        if is_storage:
            return "storage", self._storage(asked)
        match asked.path.strip("/").split("/"):
            case ["api", "whoami-v2"]:
                return "who", self._who(asked)
            case ["api", "models", owner, name, *revision]:
                return "api", self._described(f"{owner}/{name}", revision[1] if revision else "main", asked)
            case ["api", "resolve-cache", "models", owner, name, _commit, *path]:
                return "cache", self._small(f"{owner}/{name}", "/".join(path), asked)
            case [owner, name, "resolve", revision, *path]:
                return "resolve", self._resolved(f"{owner}/{name}", revision, "/".join(path), asked)
        return "api", failure(404, "", "Not Found")

    # The honest answers.

    def _who(self, asked: Asked) -> Reply:
        if (refused := self._unknown(asked)) is not None:
            return refused
        if token_of(asked) is None:
            return failure(401, "", "Invalid username or password.")
        return document({"type": "user", "name": "me", "auth": {"accessToken": {"role": "read"}}})

    def _described(self, repository: str, revision: str, asked: Asked) -> Reply:
        if (refused := self._hidden(repository, asked)) is not None:
            return refused
        if revision not in {"main", self.commit(repository)}:
            return failure(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        with_blobs = asked.query.get("blobs", "").lower() == "true" and not self.bare
        siblings = [
            {"rfilename": path, **(details(content) if with_blobs else {})}
            for path, content in sorted(self.repositories[repository].items())
        ]
        return document(
            {
                "_id": "1" * 24,
                "id": repository,
                "modelId": repository,
                "author": repository.partition("/")[0],
                "sha": self.commit(repository),
                "lastModified": "2026-01-01T00:00:00.000Z",
                "createdAt": "2026-01-01T00:00:00.000Z",
                "private": repository in self.private,
                "gated": "manual" if repository in self.gated else False,
                "disabled": False,
                "downloads": 1,
                "likes": 0,
                "tags": ["gguf"],
                "siblings": siblings,
            }
        )

    def _resolved(self, repository: str, revision: str, path: str, asked: Asked) -> Reply:
        if (refused := self._hidden(repository, asked)) is not None:
            return refused
        commit = self.commit(repository)
        if repository in self.gated and token_of(asked) != TOKEN:
            status = 401 if token_of(asked) is None else 403
            return failure(status, "GatedRepo", f"Access to model {repository} is restricted.")
        if revision not in {"main", commit}:
            return failure(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        content = self.repositories[repository].get(path)
        if content is None:
            return failure(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not content.lfs:
            there = f"/api/resolve-cache/models/{repository}/{commit}/{quote(path)}?etag={content.git_id}"
            return Reply(307, {**headers, "Location": there}, f"Temporary Redirect. Redirecting to {there}".encode())
        there = f"{self.storage}/{content.sha256}?Signature={self.epoch}~x&Key-Pair-Id=K&name={quote(path)}"
        linked = {"X-Linked-Size": str(len(content.data)), "X-Linked-ETag": f'"{content.sha256}"'}
        return Reply(
            302, {**headers, **linked, "ETag": f'"{content.git_id}"', "Location": there}, b"Found. Redirecting"
        )

    def _small(self, repository: str, path: str, asked: Asked) -> Reply:
        if (refused := self._hidden(repository, asked)) is not None:
            return refused
        content = self.repositories[repository][path]
        headers = {"ETag": f'"{content.git_id}"', "X-Repo-Commit": self.commit(repository)}
        return whole(headers, content.data, asked)

    def _storage(self, asked: Asked) -> Reply:
        if "authorization" in asked.headers:
            return Reply(400, {"Content-Type": "application/xml"}, b"<Error><Code>InvalidArgument</Code></Error>")
        if asked.query.get("Signature") != f"{self.epoch}~x":
            return Reply(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
        digest = asked.path.strip("/")
        for files in self.repositories.values():
            for content in files.values():
                if content.lfs and content.sha256 == digest:
                    return part({"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}, content.data, asked)
        return Reply(404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>")

    def _unknown(self, asked: Asked) -> Reply | None:
        if token_of(asked) not in {None, TOKEN, STRANGER}:
            return failure(401, "", "Invalid credentials in Authorization header")
        return None

    def _hidden(self, repository: str, asked: Asked) -> Reply | None:
        """The refusal, where this asker may not know of the repository."""
        if (refused := self._unknown(asked)) is not None:
            return refused
        if repository in self.repositories and (repository not in self.private or token_of(asked) == TOKEN):
            return None
        if token_of(asked) is None:
            return failure(401, "", "Invalid username or password.")
        return failure(404, "RepoNotFound", "Repository not found")


def token_of(asked: Asked) -> str | None:
    """The token that was said."""
    said = asked.headers.get("authorization")
    return said.removeprefix("Bearer ") if said is not None else None


def details(content: Content) -> dict[str, object]:
    """What the list tells of a file."""
    told: dict[str, object] = {"size": len(content.data), "blobId": content.git_id}
    if content.lfs:
        told["lfs"] = {"sha256": content.sha256, "size": len(content.data), "pointerSize": 134}
    return told


def document(value: object) -> Reply:
    return Reply(200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(value).encode())


def failure(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    """An error as the hub tells it."""
    told = {"Content-Type": "application/json", "X-Error-Message": message, **(headers or {})}
    if code:
        told["X-Error-Code"] = code
    return Reply(status, told, json.dumps({"error": message}).encode())


def whole(headers: dict[str, str], data: bytes, asked: Asked) -> Reply:
    if asked.method == "HEAD":
        headers = {**headers, "Content-Length": str(len(data))}
    return Reply(200, headers, data)


def part(headers: dict[str, str], data: bytes, asked: Asked) -> Reply:
    """The bytes that were asked for; to the end where no end was named, as a client that resumes asks."""
    text = asked.headers.get("range", "")
    if not text:
        return whole(headers, data, asked)
    first, _, last = text.removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last) + 1, len(data)) if last else len(data)
    if start >= len(data):
        return Reply(416, {**headers, "Content-Range": f"bytes */{len(data)}"})
    return Reply(206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop])
