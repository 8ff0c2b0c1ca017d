"""Pushes to a registry that lies, or that is cut off: what arrives is whole, and goes nowhere else (threat V-20)."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.awaited import awaited
from tests.registry import lies
from tests.registry.canary import Canary
from tests.registry.clients import PACE, PATIENCE, Client, at, client
from tests.registry.models import TINY, model
from tests.registry.server import PASSWORD, USER, Registry, Rule, failure
from tests.registry.wire import Asked, Reply

from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Forbidden,
    Garbled,
    LocalModelsError,
    NotFound,
    Unavailable,
)
from localmodels.registry.credentials import Login
from localmodels.registry.memory import MemoryShelf

# One blob of four chunks, and its config.
MODEL = model(250_000)
BIG = MODEL.blobs[1]


class Script(Struct, frozen=True):
    """One misbehaviour, and the error, or None where the push is made good."""

    rules: Callable[[Canary], list[Rule]]
    error: type[LocalModelsError] | None = None
    says: str = ""


def rule(to: str, change: Callable[[Asked, Reply], Reply], method: str = "", times: int = 10**9) -> Script:
    return Script(lambda _canary: [Rule(to, change, method, times)])  # type: ignore[arg-type]


def never(
    to: str, change: Callable[[Asked, Reply], Reply], method: str, error: type[LocalModelsError], says: str
) -> Script:
    """What is asked for is never done."""
    rules = [Rule(to, change, method, instead=True)]  # type: ignore[arg-type]
    return Script(lambda _canary: rules, error, says)


def once(to: str, change: Callable[[Asked, Reply], Reply], method: str = "", says: str = "") -> Script:
    return replace(rule(to, change, method, 1), says=says)


def always(
    to: str, change: Callable[[Asked, Reply], Reply], method: str, error: type[LocalModelsError], says: str = ""
) -> Script:
    return replace(rule(to, change, method), error=error, says=says)


def cut(*reads: int) -> Script:
    """The connection is reset when so many bytes of a chunk have come, one number a time."""
    return Script(lambda _canary: [Rule("upload", method="PATCH", times=1, reads=read) for read in reads], says="")


def located(to: str, where: Callable[[Canary], str], method: str, says: str = "not trusted") -> Script:
    return Script(
        lambda canary: [Rule(to, lies.header("Location", where(canary)), method)],  # type: ignore[arg-type]
        Forbidden,
        says,
    )


def elsewhere(canary: Canary) -> str:
    return canary.url + "/v2/upload"


SCRIPTS = {
    "the upload elsewhere from the start": located("uploads", elsewhere, "POST"),
    "the upload elsewhere after a chunk": located("upload", elsewhere, "PATCH"),
    "the upload elsewhere by its path": located("uploads", lambda canary: elsewhere(canary)[5:], "POST"),
    "the upload at another port": located("uploads", lambda _c: "http://127.0.0.1:9/x", "POST"),
    "the upload by https": located("uploads", lambda canary: f"https://127.0.0.1:{canary.port}/x", "POST"),
    "the upload in a file": located("uploads", lambda _c: "file:///etc/passwd", "POST", "https://"),
    "the upload with a user": located("uploads", lambda c: f"http://a@127.0.0.1:{c.port}/", "POST", "no user"),
    "the upload in Ollama's header elsewhere": Script(
        lambda canary: [Rule("uploads", lies.header("Docker-Upload-Location", elsewhere(canary)))],
        Forbidden,
        "not trusted",
    ),
    "no place for the upload": always("uploads", lies.header("Location", None), "POST", Garbled, "where to send"),
    "a chunk led on": Script(
        lambda canary: [Rule("upload", lies.moved(elsewhere(canary)), "PATCH", instead=True)], BackendError, "307"
    ),
    "the manifest led on": Script(
        lambda canary: [Rule("manifest", lies.moved(elsewhere(canary), 308), "PUT")], BackendError, "308"
    ),
    "the end led on": Script(
        lambda canary: [Rule("upload", lies.moved(elsewhere(canary)), "PUT", instead=True)], BackendError, "307"
    ),
    "a chunk cut at its first byte": cut(0),
    "a chunk cut in the middle": cut(30_000),
    "chunks cut again and again": cut(30_000, 20_000, 60_000, 1, 40_000, 0, 30_000, 2, 50_000),
    "500 for a chunk once": once("upload", lies.status(500), "PATCH"),
    "429 for a chunk once": once("upload", lies.status(429, Retry_After="1000"), "PATCH"),
    "500 for each chunk, though it is stored": rule("upload", lies.status(500), "PATCH"),
    "500 for a chunk always": never("upload", lies.status(500), "PATCH", Unavailable, "500"),
    "413": never("upload", lies.status(413), "PATCH", BackendError, "413"),
    "silence for a chunk": never("upload", lies.silent, "PATCH", BackendTimeout, "stalled|in time"),
    "the session forgotten once": once("upload", lambda _a, _r: failure(404, "BLOB_UPLOAD_UNKNOWN"), "PATCH"),
    "the session forgotten always": always(
        "upload", lambda _a, _r: failure(404, "BLOB_UPLOAD_UNKNOWN"), "", NotFound, "unknown here"
    ),
    "416 once": once("upload", lambda _a, _r: failure(416, "RANGE_INVALID"), "PATCH"),
    "fewer bytes than were sent, once": once("upload", lies.header("Range", "0-9"), "PATCH", says="has 10 bytes"),
    "more bytes than there are, once": once("upload", lies.header("Range", "0-999999999"), "PATCH"),
    "no range": rule("upload", lies.header("Range", None), "PATCH"),
    "a range of words": rule("upload", lies.header("Range", "all of it"), "PATCH"),
    "500 for the beginning once": once("uploads", lies.status(500), "POST"),
    "a beginning that is forbidden": always("uploads", lies.status(403), "POST", Forbidden, "log in"),
    "500 for the end, though it is stored": once("upload", lies.status(500), "PUT"),
    "the end cut, though it is stored": once("upload", lies.raw(b""), "PUT"),
    "another digest at the end once": once("upload", lambda _a, _r: failure(400, "DIGEST_INVALID"), "PUT"),
    "500 for the manifest once": once("manifest", lies.status(500), "PUT"),
    "the manifest understood differently": always(
        "manifest", lies.header("Docker-Content-Digest", f"sha256:{'0' * 64}"), "PUT", Garbled, "digest"
    ),
    "a manifest that is not taken": always(
        "manifest", lambda _a, _r: failure(400, "MANIFEST_INVALID"), "PUT", BackendError, "manifest_invalid here"
    ),
    "an error of a megabyte": always(
        "manifest", lambda _a, _r: Reply(400, body=b"x" * 2**20), "PUT", BackendError, "400"
    ),
    "an error with control characters": always(
        "manifest",
        lambda _a, _r: Reply(400, body=b'{"errors":[{"message":"a\\u001b[2Jb\\nc"}]}'),
        "PUT",
        BackendError,
        r"a \[2Jb c$",
    ),
    "a blob there with another size": Script(
        lambda _canary: [Rule("blob", lambda _a, _r: Reply(200, {"Content-Length": "5"}), "HEAD")], Garbled, "5 bytes"
    ),
    "500 for the first question once": once("blob", lies.status(500), "HEAD"),
}


async def pushed(opened: Client, registry: Registry) -> str:
    """Pushes the model; gives the last trouble of each step. The config is there already."""
    registry.put(MODEL.contents[0])
    steps = opened.pusher.push(TINY, at(registry.url), MODEL.manifest, MODEL.blobs)
    return " ".join([step.trouble async for step in steps])


@pytest.mark.parametrize("name", SCRIPTS)
@awaited
async def test_a_lie(name: str) -> None:
    script = SCRIPTS[name]
    async with (
        Canary() as canary,
        Registry(*script.rules(canary), login="basic") as registry,
        client(
            registry.url,
            canary.url,  # it may be reached, and still is not
            logins={registry.url: Login.parse(USER, PASSWORD)},
            shelf=MemoryShelf(*MODEL.contents),
            pace=PACE,
            patience=PATIENCE,
        ) as opened,
    ):
        if script.error is None:
            troubles = await pushed(opened, registry)
            assert re.search(script.says, troubles)
            assert set(registry.blobs.values()) == set(MODEL.contents)
            assert registry.manifests["library/tiny:latest"][1] == MODEL.manifest
        else:
            with pytest.raises(LocalModelsError, match=script.says or None) as caught:
                await pushed(opened, registry)
            assert type(caught.value) is script.error
            assert PASSWORD not in str(caught.value)
        assert (canary.connects, canary.seen) == (0, b"")
        assert len(registry.visits) < 150


@awaited
async def test_what_was_sent_is_not_sent_again() -> None:
    """A chunk that is cut goes on from the byte that the registry has."""
    async with (
        Registry(Rule("upload", method="PATCH", times=1, reads=30_000)) as registry,
        client(registry.url, shelf=MemoryShelf(*MODEL.contents), pace=PACE) as opened,
    ):
        await pushed(opened, registry)
    firsts = [
        int(visit.asked.headers["content-range"].partition("-")[0])
        for visit in registry.visits
        if visit.asked.method == "PATCH" and visit.asked.size > 100
    ]
    assert 30_000 in firsts
    assert sum(len(v.asked.body) for v in registry.visits if v.asked.method == "PATCH") == BIG.size


@awaited
async def test_a_registry_may_ask_for_larger_chunks() -> None:
    least = lies.header("OCI-Chunk-Min-Length", "200000")
    async with (
        Registry(Rule("uploads", least)) as registry,
        client(registry.url, shelf=MemoryShelf(*MODEL.contents), pace=PACE) as opened,
    ):
        await pushed(opened, registry)
    assert sorted(v.asked.size for v in registry.visits if v.asked.method == "PATCH")[-2:] == [50_000, 200_000]


@awaited
async def test_an_upload_may_go_where_the_operator_said() -> None:
    def moved(asked: Asked, reply: Reply) -> Reply:
        return lies.header("Location", storage.url + reply.headers["Location"])(asked, reply)

    async with Registry() as storage, Registry(Rule("uploads", moved)) as registry:
        # Two doors of one registry.
        storage.uploads, storage.blobs, storage.linked = registry.uploads, registry.blobs, registry.linked
        async with client(registry.url, storage.url, shelf=MemoryShelf(*MODEL.contents), pace=PACE) as opened:
            steps = opened.pusher.push(TINY, at(registry.url, storage.url), MODEL.manifest, MODEL.blobs)
            assert [step async for step in steps]
    assert (registry.count("upload"), storage.count("upload", "PUT")) == (0, 2)
    assert registry.manifests["library/tiny:latest"][1] == MODEL.manifest


@awaited
async def test_a_blob_that_is_not_here_is_named_and_no_manifest_is_sent() -> None:
    async with Registry() as registry, client(registry.url) as opened:
        with pytest.raises(NotFound, match="not here"):
            await pushed(opened, registry)
    assert registry.count("manifest") == 0


class ShortSource:
    """A file that ends early."""

    async def read(self, offset: int, size: int) -> bytes:
        return b"x" * min(size, max(0, 1000 - offset))

    async def close(self) -> None: ...


class BrokenSource(ShortSource):
    """A disk that fails."""

    async def read(self, offset: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")


class Sources:
    def __init__(self, source: ShortSource) -> None:
        self._source = source

    async def open(self, _blob: object) -> ShortSource:
        return self._source


@pytest.mark.parametrize(("source", "error"), [(ShortSource(), LocalModelsError), (BrokenSource(), OSError)])
@awaited
async def test_what_our_disk_does_wrong_is_not_the_registrys_fault(source: ShortSource, error: type[Exception]) -> None:
    async with Registry() as registry, client(registry.url, pace=PACE) as opened:
        pusher = type(opened.pusher)(opened.registry, Sources(source), pace=PACE)
        with pytest.raises(error, match=r"shorter|Input/output"):
            assert [step async for step in pusher.push(TINY, at(registry.url), MODEL.manifest, MODEL.blobs)]
    assert registry.manifests == {}


@awaited
async def test_a_push_that_is_left_stops() -> None:
    async with (
        Registry(Rule("upload", lies.silent, "PATCH")) as registry,
        client(registry.url, shelf=MemoryShelf(*MODEL.contents)) as opened,
        aclosing(opened.pusher.push(TINY, at(registry.url), MODEL.manifest, MODEL.blobs)) as steps,
    ):
        async for step in steps:
            if step.state == "moving":
                break
        await steps.aclose()
        await registry.idle()
    assert registry.manifests == {}
