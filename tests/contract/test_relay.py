"""Requests that pass through to another server: the same bytes, or an explicit error, on real connections."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from msgspec import Struct
from tests.awaited import awaited
from tests.contract.test_registry_trust import OPENSSL, make_certificate

from localmodels.backends.fake import Book, FakeServer, Script, Wire
from localmodels.backends.fake.script import Break, Choose, Failure
from localmodels.backends.fake.server import body_of
from localmodels.core.access import LOCAL, USUAL, Caller
from localmodels.core.catalog import Model, Running
from localmodels.core.chat import ChatRequest, Chunk, Done, Message, Text, Usage
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Forbidden,
    Garbled,
    LocalModelsError,
    ModelNotFound,
    QueueFull,
    RateLimited,
    StreamCut,
    Unreachable,
)
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerKind, ServerSpec
from localmodels.dialects.peek import peek
from localmodels.dialects.table import CHATS, WAYS
from localmodels.fleet.breaker import IN_A_ROW
from localmodels.flows.answering.chat import Answers
from localmodels.flows.connections.remotes import Remotes, Server
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.routing.relay import Relays, asked_tokens
from localmodels.flows.routing.remote_model import RelayTo, RemoteTarget
from localmodels.flows.visit import UNKNOWN, Visit

SAID = (Chunk("na"), Chunk("ïve 日本"), Chunk(" \U0001f600 end"))
DONE = Done("stop", Usage(5, 3))
SCRIPT = Script(SAID, DONE)
NAMES: tuple[ServerKind, ...] = ("openai", "ollama", "anthropic")
KEY = "sk-sesame-0123456789"


class Behind(Struct):
    """A server behind us, as the relay knows it."""

    fake: FakeServer
    server: Server
    remotes: Remotes

    @property
    def book(self) -> Book:
        return self.fake.book

    def to(self, name: str, model: str = "far/m:1") -> RelayTo:
        found = RemoteTarget(self.server, model).relay(name, "chat")
        assert found is not None
        return found


@asynccontextmanager
async def behind(name: ServerKind, script: Script | Choose = SCRIPT, **spec: Any) -> AsyncIterator[Behind]:
    async with FakeServer(script) as fake:
        remotes = Remotes(patience=5.0)
        fields = {"key": Secret(KEY), "first_byte": 10.0, "idle": 10.0, **spec}
        await remotes.adopt([ServerSpec(name="far", url=fake.url, kind=name, **fields)])
        yield Behind(fake, remotes.servers()[0], remotes)
        await remotes.close()


def question(name: str, *, stream: bool = True, **more: Any) -> bytes:
    fields = {"model": "far/far/m:1", "stream": stream, "messages": [{"role": "user", "content": "Hello?"}], **more}
    return json.dumps({"max_tokens": 9, **fields} if name == "anthropic" else fields).encode()


class Came(Struct):
    """What a relay gave: its bytes, the pieces they came in, and the error that ended it."""

    pieces: list[bytes]
    error: LocalModelsError | None
    visit: Visit

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


class Nowhere:
    """Stands where the models of this machine would be; nobody asks there."""

    async def find(self, name: str) -> NoReturn:
        raise ModelNotFound(name)

    async def models(self) -> tuple[Model, ...]:
        return ()

    async def describe(self, name: str, *, verbose: bool) -> NoReturn:
        raise ModelNotFound(name)

    def running(self) -> tuple[Running, ...]:
        return ()


class Purse:
    """A budget that notes what it was asked for."""

    def __init__(self, error: LocalModelsError | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self._error = error

    def reserve(self, visit: Visit, prompt: int, answer: int) -> None:
        self.asked.append((prompt, answer))
        visit.asked = prompt
        if self._error:
            raise self._error


def relays(budget: Purse | None = None) -> Relays:
    return Relays(Finders(Nowhere(), Remotes()), budget)


class Out:
    """A client's connection that takes all."""

    on_resume: Callable[[], None] | None = None
    paused = False

    def __init__(self, pieces: list[bytes]) -> None:
        self.write = pieces.append


async def ask(at: Behind, name: str, body: bytes, caller: Caller = LOCAL, *, straight: bool = False) -> Came:
    visit, pieces = Visit("req", caller), list[bytes]()
    asked, path = peek(WAYS[name], body), CHATS[name].paths["chat"]
    outlet = Out(pieces) if straight else None
    try:
        if not asked.stream:
            return Came([await relays().whole(at.to(name), path, asked, visit)], None, visit)
        async with aclosing(relays().open(at.to(name), path, asked, visit, outlet)) as stream:
            async for piece in stream:
                pieces.append(piece)
    except LocalModelsError as error:
        return Came(pieces, error, visit)
    return Came(pieces, None, visit)


def said(name: str, at: Behind) -> bytes:
    """What the server said to the request that it got, whole."""
    return body_of(CHATS[name], CHATS[name].read_chat(at.fake.asked[-1].body), SCRIPT)


async def until(true: Callable[[], bool]) -> None:
    """Gives others their turns until it is so; the test's own deadline is the bound."""
    while not true():  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0)


def end_of(name: str) -> bytes:
    return b"\n" if name == "ollama" else b"\n\n"


@pytest.mark.parametrize("straight", [False, True], ids=["task", "straight"])
@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@pytest.mark.parametrize("write_size", [0, 1, 3, 50])
@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_every_frame_is_the_servers_byte_for_byte(
    name: ServerKind, write_size: int, framing: str, straight: bool
) -> None:
    wire = Wire(framing=framing, write_size=write_size)  # type: ignore[arg-type]
    async with behind(name, Script(SAID, DONE, wire=wire)) as at:
        counted: dict[str, Any] = {"stream_options": {"include_usage": True}} if name == "openai" else {}
        came = await ask(at, name, question(name, **counted), straight=straight)
        assert (came.body, came.error) == (said(name, at), None)
        assert all(piece.endswith(end_of(name)) for piece in came.pieces)
        assert came.visit.usage == Usage(5, 3)
        assert (came.visit.model, came.visit.server) == ("far/far/m:1", "far")
        assert came.visit.pieces >= len(came.pieces) > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_a_name_becomes_a_label_when_its_server_has_answered_by_it(name: ServerKind, stream: bool) -> None:
    failing = Script(breaks=Break("fail", failure=Failure("no such model", 404, "model_not_found")))
    async with behind(name, failing) as at:
        came = await ask(at, name, question(name, stream=stream))
        assert came.error is not None
        assert (came.visit.model, came.visit.label) == ("far/far/m:1", UNKNOWN)
    async with behind(name) as at:
        refused = await ask(at, name, question(name), Caller("k", "k", USUAL, models=("near/*",)))
        assert isinstance(refused.error, Forbidden)
        assert (refused.visit.model, refused.visit.server) == ("", "")  # what the answer's head would tell
        assert (await ask(at, name, question(name, stream=stream))).visit.label == "far/far/m:1"
        refused = await ask(at, name, question(name), Caller("k", "k", USUAL, models=("near/*",)))
        assert refused.visit.label == ""


@awaited
async def test_usage_is_known_and_not_shown_to_who_did_not_ask() -> None:
    async with behind("openai") as at:
        came = await ask(at, "openai", question("openai"))
        sent = json.loads(at.fake.asked[-1].body)
        assert sent["stream_options"] == {"include_usage": True}
        assert came.visit.usage == Usage(5, 3)
        assert b'"usage":{' not in came.body
        frames = said("openai", at).split(b"\n\n")
        assert came.body == b"\n\n".join(frame for frame in frames if b'"choices":[]' not in frame)


@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_a_whole_answer_is_asked_for_and_passes_whole(name: ServerKind) -> None:
    async with behind(name) as at:
        came = await ask(at, name, question(name, stream=False))
        assert json.loads(at.fake.asked[-1].body)["stream"] is False
        assert (len(came.pieces), came.error) == (1, None)
        assert "naïve 日本" in json.dumps(json.loads(came.body), ensure_ascii=False)
        assert came.visit.usage == Usage(5, 3)


@pytest.mark.parametrize("straight", [False, True], ids=["task", "straight"])
@pytest.mark.parametrize("then", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_a_connection_that_breaks_at_any_byte_gives_whole_frames_and_then_an_error(
    name: ServerKind, framing: str, then: str, straight: bool
) -> None:
    at_byte = 0

    def breaking(request: object) -> Script:
        return Script(SAID, DONE, wire=Wire(framing=framing, at=at_byte, then=then))  # type: ignore[arg-type]

    async with behind(name, breaking) as at:
        await ask(at, name, question(name), straight=straight)
        whole = said(name, at)
        for at_byte in {*range(0, len(whole), 29), len(whole) - 1}:
            came = await ask(at, name, question(name), straight=straight)
            assert type(came.error) is StreamCut, at_byte
            assert whole.startswith(came.body) or name == "openai"
            assert came.body == b"" or came.body.endswith(end_of(name))
            assert b"[DONE]" not in came.body
            assert "'far'" not in came.body.decode()


@pytest.mark.parametrize("straight", [False, True], ids=["task", "straight"])
@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_garbage_anywhere_is_an_error_and_never_passes(name: ServerKind, straight: bool) -> None:
    at_byte = 0

    def breaking(request: object) -> Script:
        return Script(SAID, DONE, wire=Wire(at=at_byte, then="garbage"))

    async with behind(name, breaking) as at:
        await ask(at, name, question(name), straight=straight)
        for at_byte in range(0, len(said(name, at)), 31):
            came = await ask(at, name, question(name), straight=straight)
            assert type(came.error) in {Garbled, StreamCut}, at_byte
            assert b"<html>" not in came.body


@pytest.mark.parametrize("straight", [False, True], ids=["task", "straight"])
@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_silence_has_an_end(name: ServerKind, straight: bool) -> None:
    stalled = Script(SAID, DONE, wire=Wire(at=150, then="stall"))
    async with behind(name, stalled, idle=0.1, first_byte=0.1) as at:
        came = await ask(at, name, question(name), straight=straight)
        assert type(came.error) is BackendTimeout
        assert "'far'" in came.error.message
        await at.book.empty()


@pytest.mark.parametrize("straight", [False, True], ids=["task", "straight"])
@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_an_error_in_the_middle_comes_behind_what_was_said(name: ServerKind, straight: bool) -> None:
    failing = Script(SAID, DONE, breaks=Break("fail", after=2, failure=Failure("the engine stopped", 500)))
    async with behind(name, failing) as at:
        came = await ask(at, name, question(name), straight=straight)
        assert came.pieces
        assert isinstance(came.error, LocalModelsError)
        assert "the engine stopped" in came.error.message
        assert b"the engine stopped" not in came.body, "errors are written by us"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("failure", "kind", "status"),
    [
        (Failure("no", 401), BackendError, 502),
        (Failure("no", 403), BackendError, 502),
        (Failure("slow", 429, retry_after=7), RateLimited, 429),
        (Failure("model 'm' not found", 404), ModelNotFound, 404),
        (Failure("x" * 5000, 500), BackendError, 502),
        (Failure("busy", 529), LocalModelsError, 503),
        (Failure("no", 405), BackendError, 502),
        (Failure(f"wrong key {KEY}", 400), LocalModelsError, 400),
    ],
)
@awaited
async def test_errors_of_a_server_are_told_as_ours(
    name: ServerKind, failure: Failure, kind: type[LocalModelsError], status: int
) -> None:
    async with behind(name, Script(breaks=Break("fail", failure=failure))) as at:
        for stream in (True, False):
            came = await ask(at, name, question(name, stream=stream))
            assert isinstance(came.error, kind)
            assert (came.error.status, came.pieces) == (status, [])
            assert KEY not in came.error.message
            assert len(came.error.message) < 1_100
            if failure.status == 404:
                assert came.error.message == "model 'far/far/m:1' not found: the server 'far' has no model 'far/m:1'"
            if failure.status == 429:
                assert came.error.retry_after == 7


@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_the_server_gets_our_key_and_nothing_else_of_a_head(name: ServerKind) -> None:
    async with behind(name) as at:
        await ask(at, name, question(name))
        headers = dict(at.fake.asked[-1].headers)
        assert headers.pop("x-api-key", headers.pop("authorization", "")).removeprefix("Bearer ") == KEY
        assert set(headers) <= {
            "host", "accept-encoding", "user-agent", "content-type", "content-length", "anthropic-version",
        }  # fmt: skip
        assert at.fake.asked[-1].path == CHATS[name].paths["chat"]


@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_compressed_answers_and_redirects_are_refused(name: ServerKind) -> None:
    async with behind(name, Script(SAID, DONE, wire=Wire(fields="Content-Encoding: gzip\r\n"))) as at:
        came = await ask(at, name, question(name))
        assert (type(came.error), came.pieces) == (Garbled, [])
    async with behind(name, Script(breaks=Break("fail", failure=Failure("over there", 307)))) as at:
        came = await ask(at, name, question(name))
        assert isinstance(came.error, BackendError)
        assert len(at.fake.asked) == 1


@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_who_leaves_is_noticed_at_once(name: ServerKind) -> None:
    stalled = Script(SAID, DONE, breaks=Break("stall", after=2))
    async with behind(name, stalled) as at:
        asked = peek(WAYS[name], question(name))
        stream = relays().open(at.to(name), CHATS[name].paths["chat"], asked, Visit("req", LOCAL))
        await anext(stream)
        await stream.aclose()
        await at.book.empty()
        assert at.server.host.in_flight == 0


@pytest.mark.parametrize(
    ("name", "more", "answer"),
    [
        ("openai", {}, 256),
        ("openai", {"max_tokens": 40, "n": 3}, 120),
        ("openai", {"max_completion_tokens": 7, "max_tokens": 40}, 7),
        ("anthropic", {"max_tokens": 50}, 50),
        ("ollama", {"options": {"num_predict": 30}}, 30),
        ("ollama", {"options": {"num_predict": -1}}, 256),
    ],
)
@awaited
async def test_a_budget_is_asked_first_and_settled_by_what_was_counted(
    name: ServerKind, more: dict[str, Any], answer: int
) -> None:
    async with behind(name) as at:
        purse, asked = Purse(), peek(WAYS[name], question(name, **more))
        visit = Visit("req", LOCAL)
        visit.operation = "chat"
        [_ async for _ in relays(purse).open(at.to(name), CHATS[name].paths["chat"], asked, visit)]
        ((prompt, most),) = purse.asked
        assert most == answer
        assert prompt >= len(question(name, **more)) // 5
        assert visit.charged == Usage(5, 3)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_counts_that_cannot_be_pass_as_they_are_and_are_not_charged(name: ServerKind, stream: bool) -> None:
    async with behind(name, Script(SAID, Done("stop", Usage(10**19, 3)))) as at:
        came = await ask(at, name, question(name, stream=stream))
        assert (came.error, came.visit.usage) == (None, None)
        shown = not stream or name != "openai"  # who does not ask for the usage of a stream is not told
        assert (str(10**19).encode() in came.body) is shown
        assert came.visit.charged.prompt_tokens < 100
        assert 0 < came.visit.charged.completion_tokens < 100


@awaited
async def test_whose_tokens_are_used_up_is_not_passed_on() -> None:
    async with behind("ollama") as at:
        visit = Visit("req", LOCAL)
        visit.operation = "chat"
        stream = relays(Purse(RateLimited("no more"))).open(
            at.to("ollama"), "/api/chat", peek(WAYS["ollama"], question("ollama")), visit
        )
        with pytest.raises(RateLimited, match="no more"):
            await anext(stream)
        assert at.fake.asked == []


@pytest.mark.parametrize("name", NAMES)
@awaited
async def test_of_an_answer_that_was_cut_the_pieces_are_charged(name: ServerKind) -> None:
    cut = Script(SAID, DONE, breaks=Break("cut", after=2))
    async with behind(name, cut) as at:
        purse, visit = Purse(), Visit("req", LOCAL)
        visit.operation = "chat"
        stream = relays(purse).open(at.to(name), CHATS[name].paths["chat"], peek(WAYS[name], question(name)), visit)
        with pytest.raises(StreamCut):
            [_ async for _ in stream]
        assert visit.usage is None
        assert visit.charged.completion_tokens >= 2
        assert visit.charged.prompt_tokens > 0


@pytest.mark.parametrize(
    ("status", "charged"), [(400, False), (401, False), (404, False), (429, False), (503, False), (500, True)]
)
@awaited
async def test_what_a_server_has_not_taken_is_not_charged(status: int, *, charged: bool) -> None:
    async with behind("openai", Script(breaks=Break("fail", failure=Failure("no", status)))) as at:
        visit = await failed(at)
        assert bool(visit.admitted) == bool(visit.tokens) == charged


@awaited
async def test_a_server_that_cannot_be_reached_costs_nothing_and_one_that_falls_silent_what_it_was_sent() -> None:
    async with behind("openai") as at:
        at.fake.refuse()
        assert (await failed(at)).charged == Usage()
    async with behind("openai", Script(SAID, DONE, wire=Wire(at=0, then="stall")), first_byte=0.1, idle=0.1) as at:
        assert (await failed(at)).charged.prompt_tokens > 0


@awaited
async def test_a_translated_request_that_no_model_took_is_not_charged_either() -> None:
    async with behind("openai") as at:
        at.fake.refuse()
        finder, visit = Finders(Nowhere(), at.remotes), Visit("req", LOCAL)
        request = ChatRequest("far/far/m:1", (Message("user", (Text("Hello?"),)),))
        with pytest.raises(Unreachable):
            await anext(Answers(finder).chat(request, visit))
        assert (visit.asked > 0, visit.charged) == (True, Usage())


async def failed(at: Behind) -> Visit:
    """The visit of a chat that the server did not answer."""
    visit = Visit("req", LOCAL)
    visit.operation = "chat"
    asked = peek(WAYS["openai"], question("openai"))
    stream = relays(Purse()).open(at.to("openai"), CHATS["openai"].paths["chat"], asked, visit)
    with pytest.raises(LocalModelsError):
        await anext(stream)
    assert visit.asked > 0
    return visit


def test_the_size_of_pictures_is_not_their_tokens() -> None:
    picture = b"A" * 2**20
    assert asked_tokens(b'{"url": "data:image/png;base64,%b"}' % picture) < 1_000
    assert asked_tokens(b'{"text": "%b"}' % (b"word " * 20_000)) > 20_000


@awaited
async def test_a_key_for_other_models_opens_nothing() -> None:
    mine = Caller("key", "key", USUAL, models=("far/other*",))
    async with behind("ollama") as at:
        came = await ask(at, "ollama", question("ollama"), mine)
        assert type(came.error) is Forbidden
        assert at.fake.asked == []


@awaited
async def test_places_are_bounded_and_come_back() -> None:
    slow = Script(SAID, DONE, breaks=Break("stall", after=1))
    async with behind("ollama", slow, max_concurrent=2, max_queue=1) as at:
        tasks = [asyncio.ensure_future(ask(at, "ollama", question("ollama"))) for _ in range(3)]
        await (await at.book.nth(1)).begun.wait()
        await until(lambda: at.server.host.waiting > 0)
        assert (at.server.host.in_flight, at.book.most) == (2, 2)
        refused = await ask(at, "ollama", question("ollama"))
        assert type(refused.error) is QueueFull
        assert refused.error.retry_after
        tasks[0].cancel()
        await (await at.book.nth(2)).begun.wait()
        assert at.book.most == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (at.server.host.in_flight, at.server.host.waiting) == (0, 0)


@awaited
async def test_a_kept_connection_that_died_costs_no_request() -> None:
    async with behind("ollama") as at:
        for count in range(1, 6):
            assert (await ask(at, "ollama", question("ollama"))).error is None
            (connection,) = at.fake.connections
            connection.close()  # what a server does with a connection that was idle for too long
            assert at.fake.accepted == count


@awaited
async def test_nobody_is_there() -> None:
    async with behind("ollama") as at:
        at.fake.refuse()
        for _ in range(IN_A_ROW):
            assert at.server.answers
            came = await ask(at, "ollama", question("ollama"))
            assert type(came.error) is Unreachable
            assert came.error.message == "the server 'far' cannot be reached"
        told = at.server.state()
        assert (told["status"], told["failure"]) == ("down", "the server cannot be reached")


@awaited
async def test_a_server_that_leaves_the_configuration_finishes_what_it_has() -> None:
    gate = asyncio.Event()

    async def held(seconds: float) -> None:
        await gate.wait()

    async with FakeServer(Script(SAID, DONE, between=1.0), sleep=held) as fake:
        remotes = Remotes()
        spec = ServerSpec(name="far", url=fake.url, kind="ollama")
        await remotes.adopt([spec])
        (server,) = remotes.servers()
        asked = peek(WAYS["ollama"], question("ollama"))
        to = RemoteTarget(server, "m").relay("ollama", "chat")
        assert to is not None
        stream = relays().open(to, "/api/chat", asked, Visit("req", LOCAL))
        first = await anext(stream)
        await remotes.adopt([ServerSpec(name="near", url=fake.url, kind="ollama")])
        assert remotes.find("far/m") is None
        assert remotes.find("near/m") is not None
        gate.set()
        rest = b"".join([piece async for piece in stream])
        assert b'"done":true' in first + rest
        await remotes.adopt([])
        await remotes.close()


def test_no_server_shows_its_key() -> None:
    spec = ServerSpec(name="far", url="http://127.0.0.1:9", kind="openai", key=Secret(KEY))

    async def shown() -> str:
        remotes = Remotes()
        await remotes.adopt([spec])
        (server,) = remotes.servers()
        text = repr((spec, str(spec), server, server.state(), vars(server), vars(server.far)))
        await remotes.close()
        return text

    assert KEY not in asyncio.run(shown())


@awaited
async def test_a_client_that_is_full_gets_no_more_until_it_takes() -> None:
    words = tuple(Chunk("word " * 2000) for _ in range(400))  # 4 MB
    async with behind("ollama", Script(words, DONE)) as at:
        pieces: list[bytes] = []
        out, visit = Out(pieces), Visit("req", LOCAL)
        asked = peek(WAYS["ollama"], question("ollama"))
        stream = relays().open(at.to("ollama"), "/api/chat", asked, visit, out)
        out.paused = True
        pieces.append(await anext(stream))
        rest = asyncio.ensure_future(anext(stream, b""))
        await until(lambda: out.on_resume is not None)
        before = len(pieces)
        for _ in range(2 * len(words)):
            await asyncio.sleep(0)
        assert len(pieces) == before, "it gets nothing while it is full"
        out.paused = False
        assert out.on_resume is not None
        out.on_resume()
        assert await rest == b""
        await stream.aclose()
        said_whole = body_of(CHATS["ollama"], CHATS["ollama"].read_chat(at.fake.asked[-1].body), Script(words, DONE))
        assert b"".join(pieces) == said_whole
        assert visit.usage == Usage(5, 3)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's side, and the authority to believe it by."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed, so there is no certificate to test with")
    where = tmp_path_factory.mktemp("tls")
    make_certificate(OPENSSL, where / "key.pem", where / "certificate.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(where / "certificate.pem", where / "key.pem")
    return server, where / "certificate.pem"


@awaited
async def test_https_to_who_proves_its_name_and_to_nobody_else(certificate: tuple[ssl.SSLContext, Path]) -> None:
    tls, authority = certificate
    async with FakeServer(SCRIPT, tls=tls) as fake:
        remotes = Remotes()
        spec = ServerSpec(name="far", url=fake.url, kind="openai", key=Secret(KEY), ca_file=authority)
        stranger = ServerSpec(name="far", url=fake.url, kind="openai", key=Secret(KEY))
        await remotes.adopt([spec])
        at = Behind(fake, remotes.servers()[0], remotes)
        for _ in range(3):
            came = await ask(at, "openai", question("openai"), straight=True)
            assert (came.error, came.visit.usage) == (None, Usage(5, 3))
        assert fake.accepted == 1
        await remotes.adopt([stranger])
        came = await ask(Behind(fake, remotes.servers()[0], remotes), "openai", question("openai"))
        assert type(came.error) is Unreachable
        assert came.error.message.startswith("the server 'far' has no certificate that can be believed")
        assert len(fake.asked) == 3
        await remotes.close()


@awaited
async def test_https_to_who_speaks_none_says_so() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server, FakeServer(SCRIPT) as fake:
        port = server.sockets[0].getsockname()[1]
        remotes = Remotes()
        await remotes.adopt([ServerSpec(name="far", url=f"https://127.0.0.1:{port}", kind="openai")])
        try:
            came = await ask(Behind(fake, remotes.servers()[0], remotes), "openai", question("openai"))
        finally:
            await remotes.close()
    assert type(came.error) is Unreachable
    assert came.error.message.startswith("TLS with the server 'far' failed; if it speaks plain HTTP"), came.error
