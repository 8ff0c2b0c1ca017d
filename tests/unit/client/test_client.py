"""Both clients against the dialect's other role: values out, typed errors, streams that end or say they did not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.unit.client.fake_server import (
    DESCRIPTION,
    DONE,
    EVENTS,
    KEY,
    MODEL,
    RANKING,
    RUNNING,
    STEPS_OF_ALL,
    TEXT,
    USE,
    FakeServer,
)

from localmodels.client import AsyncClient, ChatRequest, Client, Done, EmbedRequest, GenerateRequest, system, user
from localmodels.core.access import Wish
from localmodels.core.chat import Answer, Chunk
from localmodels.core.errors import (
    BackendTimeout,
    Garbled,
    InvalidValue,
    LocalModelsError,
    ModelNotFound,
    OutOfMemory,
    QueueFull,
    RunnerDied,
    StreamCut,
    Unreachable,
)
from localmodels.core.library import CreateRequest, Outcome, PartlyDone, Progress, PullRequest, PushRequest
from localmodels.core.rerank import RerankRequest
from localmodels.dialects.management import shown

CHAT = ChatRequest("m", (system("Be brief."), user("Hi")))
GENERATE = GenerateRequest("m", "Hi")


def client_of(server: FakeServer, **more: Any) -> Client:
    return Client("127.0.0.1:8000", transport=server.transport, environ={}, **more)


def together(call: Callable[[AsyncClient], Awaitable[Any]], server: FakeServer) -> Any:
    async def run() -> Any:
        async with AsyncClient("127.0.0.1:8000", transport=server.transport, environ={}) as client:
            return await call(client)

    return asyncio.run(run())


A, B = Outcome("a", "success"), Outcome("b", "success")
CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "chat": (lambda client: client.chat(CHAT), Answer(DONE, "Hello")),
    "generate": (lambda client: client.generate(GENERATE), Answer(DONE, "Hello")),
    "list": (lambda client: client.list(), (MODEL,)),
    "version": (lambda client: client.version(), "9.9.9"),
    "tokenize": (lambda client: client.tokenize("m", "ab"), (97, 98)),
    "detokenize": (lambda client: client.detokenize("m", [97, 98]), "ab"),
    "rerank": (lambda client: client.rerank(RerankRequest("m", "q", ("a", "b"))), RANKING),
    "keys": (lambda client: client.keys(), (shown(KEY, 2 * 10**18),)),
    "add_key": (lambda client: client.add_key(Wish("bob", models=("m",))), (shown(KEY, 2 * 10**18), TEXT)),
    "revoke_key": (lambda client: client.revoke_key("key_1"), shown(KEY, 2 * 10**18)),
    "usage": (lambda client: client.usage("key_1"), (USE,)),
    "usage since": (lambda client: client.usage(since=datetime(2025, 11, 24, 16, 30, tzinfo=UTC)), (USE,)),
    "usage later": (lambda client: client.usage(since=datetime(2025, 11, 24, 17, tzinfo=UTC)), ()),
    "load": (lambda client: client.load("m"), None),
    "unload": (lambda client: client.unload("m"), ()),
    "copy": (lambda client: client.copy("m", "n"), ()),
    "delete": (lambda client: client.delete("m"), ()),
    "ps there": (
        lambda client: client.running_on(("m", "dead")),
        ((), (Outcome("dead", "error", "it does not answer"),)),
    ),
    "unload there": (lambda client: client.unload("m", server="a"), (A,)),
    "copy there": (lambda client: client.copy("m", "n", server=("a", "b")), (A, B)),
    "delete there": (lambda client: client.delete("m", server=("a", "b")), (A, B)),
    "unload both": (lambda client: client.unload("m", server=["a", "b"]), (A, B)),
}


@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)
def test_answers_are_values_in_both_forms(call: Callable[[Any], Any], expected: object) -> None:
    with client_of(FakeServer()) as client:
        assert call(client) == expected
    assert together(call, FakeServer()) == expected


def test_a_stream_is_its_events() -> None:
    async def events(client: AsyncClient) -> list[object]:
        return [event async for event in client.stream_chat(CHAT)]

    with client_of(FakeServer()) as client:
        assert list(client.stream_chat(CHAT)) == list(EVENTS)
        assert list(client.stream_generate(GENERATE)) == list(EVENTS)
    assert together(events, FakeServer()) == list(EVENTS)


STREAMS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "pull": (lambda client: client.pull("m", insecure=True), PullRequest("m", insecure=True)),
    "push": (lambda client: client.push("m"), PushRequest("m")),
    "create": (lambda client: client.create(CreateRequest("m", "b", stream=False)), CreateRequest("m", "b")),
}


@pytest.mark.parametrize(("call", "asked"), STREAMS.values(), ids=STREAMS)
def test_long_operations_tell_how_far_they_are(call: Callable[[Any], Any], asked: object) -> None:
    async def steps(client: AsyncClient) -> list[Progress]:
        return [step async for step in call(client)]

    server = FakeServer()
    with client_of(server) as client:
        assert list(call(client)) == list(STEPS_OF_ALL)
    assert together(steps, server) == list(STEPS_OF_ALL)
    assert server.library == [asked, asked]


@pytest.mark.parametrize("call", [call for call, _ in STREAMS.values()], ids=STREAMS)
def test_an_operation_that_breaks_off_has_not_succeeded(call: Callable[[Any], Any]) -> None:
    with client_of(FakeServer(cut_at=60)) as client, pytest.raises(StreamCut):
        list(call(client))
    with client_of(FakeServer(fails_with=ModelNotFound("m"))) as client, pytest.raises(ModelNotFound):
        list(call(client))


def test_a_file_is_uploaded_once(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    file = tmp_path / "weights.gguf"
    file.write_bytes(content)
    digest = f"sha256:{sha256(content).hexdigest()}"
    server = FakeServer()
    with client_of(server) as client:
        assert client.upload(file) == digest
    assert together(lambda client: client.upload(file), server) == digest
    assert server.blobs == {digest: content}
    assert [request.method for request in server.asked] == ["HEAD", "POST", "HEAD"]
    other = FakeServer()
    assert together(lambda client: client.upload(file), other) == digest
    assert other.blobs == {digest: content}


def test_how_far_an_upload_is(tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(bytes(2**20 + 5))
    for _ in range(2):
        server, steps = FakeServer(), list[Progress]()
        with client_of(server) as client:
            digest = client.upload(file, steps.append)
        size = file.stat().st_size
        assert steps == [
            *(Progress("reading weights.gguf", "", size, done) for done in (2**20, size)),
            *(Progress("uploading weights.gguf", digest, size, done) for done in (2**20, size)),
        ]
    steps.clear()
    together(lambda client: client.upload(file, steps.append), server)
    assert steps[-1] == Progress("weights.gguf is there already", digest)


def test_an_empty_file_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    server = FakeServer()
    with client_of(server) as client:
        client.upload(tmp_path / "empty")
        assert list(server.blobs.values()) == [b""]
        with pytest.raises(FileNotFoundError):
            client.upload(tmp_path / "nothing")


def test_an_operation_to_its_end_with_a_word_for_each_step() -> None:
    steps: list[Progress] = []
    with client_of(FakeServer()) as client:
        client.finish(client.pull("m"), steps.append)
        client.finish(client.push("m"))
        with pytest.raises(LocalModelsError), client_of(FakeServer(cut_at=60)) as cut:
            cut.finish(cut.pull("m"))
    assert steps == list(STEPS_OF_ALL)
    together(lambda client: client.finish(client.pull("m"), steps.append), FakeServer())
    assert steps == [*STEPS_OF_ALL, *STEPS_OF_ALL]


# A first look at the server for people, Ollama's older form of `embed`, figures for another program, and what other
# clients call what is called here under another name.
NOT_CALLED = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("POST", "/api/embeddings"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("POST", "/rerank"),
    ("POST", "/v2/rerank"),
    ("GET", "/models"),
    ("POST", "/chat"),
    ("POST", "/chat/{model_name}"),
}


def test_every_address_has_its_call(tmp_path: Path) -> None:
    """All that the server answers by itself and in Ollama's words; OpenAI's are the same in other words."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "routes.md").read_text()
    rows = re.findall(r"^\| ([A-Z, ]+) \| `(/[^`]*)` \|", page.partition("## OpenAI's API")[0], re.MULTILINE)
    told = {(methods.split(", ")[-1], path.replace("{digest}", "")) for methods, path in rows}
    told = {(method, path) for method, path in told if not path.startswith("/api/route")}  # of the fleet
    assert len(told) > 15
    file = tmp_path / "file"
    file.touch()
    server = FakeServer()
    with client_of(server) as client:
        for call, _ in CALLS.values():
            call(client)
        for stream, _ in STREAMS.values():
            list(stream(client))
        client.embed(EmbedRequest("m", ("a",)))
        client.show("m")
        client.ps()
        client.health()
        client.upload(file)
    asked = {(request.method, re.sub(r"sha256:.*", "", request.url.path)) for request in server.asked}
    alike = {("GET", path) for method, path in asked if method == "GET"}
    alike |= {("HEAD", path) for method, path in asked if method == "GET"}  # a look at what GET tells
    assert told - NOT_CALLED - asked - alike == set()


def test_embed_show_ps() -> None:
    with client_of(FakeServer()) as client:
        embeddings = client.embed(EmbedRequest("m", ("a", "b")))
        description, parameters = client.show("m", verbose=True)
        running = client.ps()
    assert embeddings.vectors == ((0.0, 0.5), (1.0, 0.5))
    assert (description.model.name, description.system) == (MODEL.name, DESCRIPTION.system)
    assert "temperature" in parameters
    assert (running[0].pid, running[0].expires_at) == (RUNNING.pid, RUNNING.expires_at)


def test_unload_asks_with_nothing_to_say_and_no_time_to_stay() -> None:
    server = FakeServer()
    with client_of(server) as client:
        client.unload("m")
    asked = server.generate
    assert (asked.model, asked.keep_alive, asked.prompt) == ("m", 0, "")


@pytest.mark.parametrize("call", [row[0] for name, row in CALLS.items() if "token" not in name])
def test_what_the_server_refuses_is_raised_as_what_it_is(call: Callable[[Any], Any]) -> None:
    refused = FakeServer(fails_with=InvalidValue("top_p must be between 0 and 1"))
    with client_of(refused) as client, pytest.raises(LocalModelsError, match="top_p must be") as caught:
        call(client)
    assert caught.value.status == 422


@pytest.mark.parametrize("error", [ModelNotFound("x"), QueueFull("busy"), OutOfMemory(2**31, 2**30)])
def test_a_stream_refused_before_it_begins(error: LocalModelsError) -> None:
    with client_of(FakeServer(fails_with=error)) as client, pytest.raises(LocalModelsError) as caught:
        list(client.stream_chat(CHAT))
    assert (caught.value.status, caught.value.message) == (error.status, error.message)


def test_a_stream_that_fails_gives_what_came_and_then_the_error() -> None:
    server = FakeServer(events=[Chunk(text="Hel")], breaks_with=RunnerDied("the runner ended"))
    seen: list[object] = []
    with client_of(server) as client, pytest.raises(LocalModelsError, match="the runner ended"):
        seen.extend(client.stream_chat(CHAT))
    assert not any(isinstance(event, Done) for event in seen)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_cut_at_any_byte_is_never_an_end(form: str) -> None:
    whole = len(FakeServer()._written(FakeServer._writer(CHAT)))

    async def drain(client: AsyncClient) -> list[object]:
        return [event async for event in client.stream_chat(CHAT)]

    for cut in range(whole - 1):
        server = FakeServer(cut_at=cut)
        with pytest.raises(StreamCut):
            together(drain, server) if form == "async" else list(client_of(server).stream_chat(CHAT))


@pytest.mark.parametrize(
    ("failure", "expected", "words"),
    [
        (httpx2.ConnectError("x"), Unreachable, "no server answers at http://127.0.0.1:8000"),
        (httpx2.ConnectTimeout("x"), Unreachable, "no server answers"),
        (httpx2.ReadTimeout("x"), BackendTimeout, "did not answer in time"),
        (httpx2.RemoteProtocolError("x"), Unreachable, "without an answer"),
    ],
)
def test_failures_before_the_answer(failure: Exception, expected: type[Exception], words: str) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise failure

    client = Client(transport=httpx2.MockTransport(fail), environ={})
    with pytest.raises(expected, match=words):
        client.list()
    with pytest.raises(expected, match=words):
        list(client.stream_chat(CHAT))


class Breaking(httpx2.SyncByteStream):
    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield b"{"
        raise self._failure


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (httpx2.ReadError("x"), StreamCut),
        (httpx2.RemoteProtocolError("x"), StreamCut),
        (httpx2.ReadTimeout("x"), BackendTimeout),
    ],
)
def test_failures_within_the_answer(failure: Exception, expected: type[Exception]) -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, stream=Breaking(failure)))
    client = Client(transport=transport, environ={})
    with pytest.raises(expected):
        client.list()
    with pytest.raises(expected):
        list(client.stream_chat(CHAT))


@pytest.mark.parametrize("call", ["list", "ps", "version", "health"])
def test_a_stranger_is_told_from_a_server(call: str) -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=b"<html>"))
    with pytest.raises(Garbled):
        getattr(Client(transport=transport, environ={}), call)()


def test_a_redirect_is_not_followed() -> None:
    def redirect(request: httpx2.Request) -> httpx2.Response:
        assert request.url.host == "127.0.0.1"
        return httpx2.Response(307, headers={"Location": "http://elsewhere/"})

    with pytest.raises(Garbled, match="sends us elsewhere"):
        Client(transport=httpx2.MockTransport(redirect), environ={}).list()


def test_leaving_a_stream_closes_the_connection() -> None:
    closed = []

    class Endless(httpx2.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            while True:
                yield FakeServer()._written(FakeServer._writer(CHAT)).splitlines(keepends=True)[0]

        def close(self) -> None:
            closed.append(True)

    client = Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, stream=Endless())), environ={})
    stream = client.stream_chat(CHAT)
    assert next(stream) == EVENTS[0]
    assert not closed
    stream.close()
    assert closed == [True]


@pytest.mark.parametrize("status", [200, 503])
def test_health_is_an_answer_also_when_it_is_bad(status: int) -> None:
    server = FakeServer(status=status, health=b'{"status": "unhealthy", "notes": ["no disk"]}')
    with client_of(server) as client:
        health = client.health()
    assert (health.status, health.model_ready, health.notes) == ("unhealthy", False, ("no disk",))


def test_the_health_of_something_else_is_an_error() -> None:
    with client_of(FakeServer(status=404, health=b"")) as client, pytest.raises(LocalModelsError) as caught:
        client.health()
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("host", "environ", "url"),
    [
        (None, {}, "http://127.0.0.1:8000"),
        (None, {"OLLAMA_HOST": "gpu"}, "http://gpu:11434"),
        (None, {"OLLAMA_HOST": "0.0.0.0"}, "http://127.0.0.1:11434"),
        (None, {"OLLAMA_HOST": "gpu", "LOCALMODELS_HOST": "big:1"}, "http://big:1"),
        ("https://x/base", {"LOCALMODELS_HOST": "big:1"}, "https://x:443/base"),
    ],
)
def test_where_the_server_is(host: str | None, environ: dict[str, str], url: str) -> None:
    server = FakeServer()
    client = Client(host, transport=server.transport, environ=environ)
    assert client.url == url


def test_a_base_path_comes_before_ours() -> None:
    server = FakeServer()
    client = Client("http://x/base", transport=server.transport, environ={})
    with pytest.raises(KeyError, match="/base/api/tags"):
        client.list()


@pytest.mark.parametrize(
    ("key", "environ", "sent"),
    [
        (None, {}, None),
        (None, {"OLLAMA_API_KEY": "o"}, "Bearer o"),
        (None, {"OLLAMA_API_KEY": "o", "LOCALMODELS_API_KEY": "l"}, "Bearer l"),
        ("k", {"LOCALMODELS_API_KEY": "l"}, "Bearer k"),
        ("", {"LOCALMODELS_API_KEY": "l"}, None),
    ],
)
def test_the_key_goes_along(key: str | None, environ: dict[str, str], sent: str | None) -> None:
    server = FakeServer()
    Client(api_key=key, transport=server.transport, environ=environ).list()
    assert server.asked[0].headers.get("Authorization") == sent


@pytest.mark.parametrize("name", ["delete there", "copy there", "unload both"])
def test_who_did_it_is_known_also_where_another_failed(name: str) -> None:
    """In both forms: the error has what became of every server."""
    server = FakeServer(lost={"b": "no room"})
    call, _ = CALLS[name]
    with pytest.raises(PartlyDone, match="1 of 2 servers failed: b: no room") as raised:
        call(client_of(server))
    assert raised.value.outcomes == (A, Outcome("b", "error", "no room"))
    with pytest.raises(PartlyDone):
        together(call, server)
