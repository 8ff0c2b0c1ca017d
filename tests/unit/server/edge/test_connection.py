"""What a client does, and what comes of it: one request at a time, and no work for those who have left."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from starlette.types import Message, Receive, Scope, Send
from tests.awaited import awaited
from tests.hostile.framing import echo
from tests.unit.server.edge.scripted import BOUNDS, GET, Endless, World, hello, settle

from localmodels.server.edge.connection import PORTIONS
from localmodels.server.edge.seam import EDGE, Sink, cancels, edge_of

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"


async def answer(send: Send) -> None:
    """A whole answer without contents."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b""})


@awaited
async def test_the_scope_is_as_asgi_has_it() -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await hello(scope, receive, send)

    client = World(application).client("192.0.2.1")
    await client.send(b"GET /a%20b/%C3%A4?c=%20d HTTP/1.1\r\nHost: X\r\nAccept: y\r\nAccept: z\r\n\r\n")
    (scope,) = seen
    del scope["extensions"]
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("192.0.2.1", 9),
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": "/a b/ä",
        "raw_path": b"/a%20b/%C3%A4",
        "query_string": b"c=%20d",
        "headers": [(b"host", b"X"), (b"accept", b"y"), (b"accept", b"z")],
        "state": {},
    }


@awaited
async def test_head_and_first_piece_are_one_write() -> None:
    client = World(hello).client()
    await client.send(GET)
    assert client.heard == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    assert client.transport.writes == 1
    assert client.transport.high == BOUNDS.write_high


@awaited
async def test_head_is_answered_without_a_body() -> None:
    client = World(hello).client()
    await client.send(HEAD + GET)
    head, _, rest = client.heard.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 5"
    assert rest.startswith(b"HTTP/1.1 200 OK")


@awaited
async def test_a_stream_comes_in_chunks_as_they_are_written() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await settle()
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    client = World(application).client()
    client.connection.data_received(GET)
    await asyncio.sleep(0)
    assert client.heard == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    await settle()
    await settle()
    assert client.heard.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@awaited
async def test_the_next_request_waits_for_the_answer_to_the_one_before() -> None:
    gates = {"/1": asyncio.Event(), "/2": asyncio.Event()}
    begun: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await gates[scope["path"]].wait()
        await echo(scope, receive, send)

    client = World(application).client()
    await client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2", b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert begun == ["/1"]
    gates["/1"].set()
    await settle()
    assert begun == ["/1", "/2"]
    assert client.heard.endswith(b"GET /1|")
    gates["/2"].set()
    await settle()
    assert client.heard.endswith(b"GET /2|")


@awaited
async def test_too_much_sent_ahead_is_not_kept_and_nothing_follows_the_answer() -> None:
    world = World(Endless())
    client = world.client()
    await client.send(POST + b"abc", *[b"x" * 20_000] * 5)
    assert client.state() == "open"
    await client.send(b"x" * BOUNDS.wasted)
    assert client.state() == "aborted"


@awaited
async def test_an_answer_is_the_last_one_if_too_much_was_sent_ahead() -> None:
    gate = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    client = World(application).client()
    await client.send(GET, GET * 3000)
    gate.set()
    await settle()
    assert client.heard.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in client.heard
    assert client.state() == "ended"


PHASES = {
    "before it has begun": (GET, Endless(begins=False), 0),
    "while nothing is said": (GET, Endless(begins=False), 1),
    "in the middle of its body": (POST + b"a", Endless(), 1),
    "in the middle of the answer": (GET, Endless(), 1),
    "with another request behind": (GET + GET, Endless(), 1),
    "with another one that came later": (GET, Endless(), 2),
}


@pytest.mark.parametrize("way", ["closes", "resets", "sends no more"])
@pytest.mark.parametrize("phase", PHASES)
@awaited
async def test_who_leaves_ends_the_work_for_him(phase: str, way: str) -> None:
    sent, application, waits = PHASES[phase]
    application.begun = application.cancelled = 0
    world = World(application)
    client = world.client()
    client.connection.data_received(sent)
    for _ in range(waits):
        await settle()
    if waits == 2:
        client.connection.data_received(GET)
    if way == "sends no more":
        client.connection.eof_received()
        assert client.state() == "aborted"
    client.go(ConnectionResetError() if way == "resets" else None)
    await settle()
    assert application.cancelled == application.begun == min(waits, 1)
    assert not world.among.tasks
    assert len(world.among) == 0
    assert world.among.buffered == 0


@awaited
async def test_work_behind_an_answer_that_is_complete_is_not_cancelled() -> None:
    done = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        await settle()
        done.set()

    client = World(application).client()
    client.connection.data_received(GET)
    await asyncio.sleep(0)
    client.go()
    await settle()
    await settle()
    assert done.is_set()


@awaited
async def test_an_application_that_watches_for_it_hears_of_the_departure() -> None:
    heard: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            heard.append(await receive())
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"nobody hears it"})

    client = World(application).client()
    await client.send(GET)
    client.go()
    await settle()
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]
    assert not client.heard


@awaited
async def test_after_the_answer_there_is_nothing_to_receive() -> None:
    heard: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(watched(receive))
        await settle()
        await answer(send)
        await watch

    async def watched(receive: Receive) -> None:
        heard.extend([await receive(), await receive()])

    client = World(application).client()
    await client.send(GET)
    await settle()
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]


@awaited
async def test_an_error_before_the_answer_is_a_500_and_the_end() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a defect")

    client = World(application).client()
    await client.send(GET)
    assert client.heard.startswith(b"HTTP/1.1 500 ")
    assert b"defect" not in client.heard
    assert client.over()


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"50")]])
@awaited
async def test_an_error_in_the_middle_of_an_answer_leaves_it_visibly_short(headers: list[tuple[bytes, bytes]]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ValueError("a defect")

    client = World(application).client()
    await client.send(GET)
    assert not client.heard.endswith(b"0\r\n\r\n")
    assert client.state() == "ended"  # what was said is still delivered


@awaited
async def test_an_answer_without_framing_is_torn_off_so_that_it_does_not_look_complete() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})

    client = World(application).client()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.state() == "aborted"


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body", "body": b"a"}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
        [{"type": "http.response.start", "status": 200}, *[{"type": "http.response.body", "body": b"a"}] * 2],
        [{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]},
         {"type": "http.response.body", "body": b"ab"}],
        [{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
         {"type": "http.response.body", "body": b"ab"}],
        [{"type": "websocket.accept"}],
    ],
)  # fmt: skip
@awaited
async def test_an_application_that_breaks_the_rules_hears_of_it(messages: list[Message]) -> None:
    wrong: list[Exception] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            wrong.append(error)

    client = World(application).client()
    await client.send(GET)
    assert len(wrong) == 1


@awaited
async def test_an_answer_before_the_body_has_come_is_the_last_one() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    world = World(application)
    client = world.client()
    await client.send(POST + b"a")
    assert b"connection: close" in client.heard
    # It is told so while it still sends; closing now would take the words back.
    assert client.state() == "ended"
    await client.send(b"bc", GET)
    assert client.heard.count(b"HTTP/1.1") == 1
    world.later(BOUNDS.linger)
    assert client.state() == "closed"


@awaited
async def test_who_wants_to_be_asked_for_the_body_is_asked_once() -> None:
    client = World(echo).client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert client.heard == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"a", b"bc")
    assert client.heard.count(b"100 Continue") == 1
    assert client.heard.endswith(b"POST /|abc")


@awaited
@pytest.mark.parametrize(("streamed", "woken"), [(False, [12]), (True, [1, 1, 10])])
async def test_who_takes_a_body_whole_is_not_woken_for_each_byte(streamed: bool, woken: list[int]) -> None:
    sizes: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if streamed:
            scope["extensions"][EDGE].stream_body()
        more = True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await answer(send)

    client = World(application).client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n", b"a", b"b", b"c" * 10)
    assert sizes == woken
    assert client.heard.startswith(b"HTTP/1.1 200 ")


@awaited
async def test_who_takes_a_body_whole_has_it_in_portions() -> None:
    sizes: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            sizes.append(len((await receive())["body"]))

    client = World(application).client()
    portion = BOUNDS.body_high // PORTIONS
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (4 * portion))
    await client.send(b"a" * (portion - 1), b"a", b"a" * portion, b"a")
    assert sizes == [portion, portion]
    assert client.transport.pauses == 0


@awaited
async def test_a_large_body_is_read_as_it_is_taken() -> None:
    gate = asyncio.Event()
    sizes: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][EDGE].stream_body()
        while (message := await receive()).get("more_body"):
            sizes.append(len(message["body"]))
            await gate.wait()
        await answer(send)

    world = World(application)
    client = world.client()
    size = 3 * BOUNDS.body_high
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, b"a" * 10)
    await client.send(b"a" * BOUNDS.body_high, b"a")
    assert client.transport.pauses == 1
    world.later(1000)  # it is not the client who is slow
    assert world.among.buffered == BOUNDS.body_high + 1
    gate.set()
    await settle()
    assert client.transport.resumes == 1
    assert world.among.buffered == 0
    await client.send(b"a" * (size - BOUNDS.body_high - 11))
    assert client.heard.startswith(b"HTTP/1.1 200 ")
    assert sum(sizes) < size


@awaited
async def test_all_bodies_on_their_way_have_one_bound() -> None:
    world = World(hello, replace(BOUNDS, buffered=1000))
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n"
    first, second = world.client(), world.client()
    await first.send(post + b"a" * 600)
    assert world.among.buffered == 600  # the application has it, but not all of it: it is still held
    await second.send(post + b"a" * 399)
    await second.send(b"a" * 2)
    assert second.heard.startswith(b"HTTP/1.1 503 ")
    assert not world.among.refusals  # the application, which has a part of it, notes that
    at_once = world.client()
    await at_once.send(post + b"a" * 500)
    assert at_once.heard.startswith(b"HTTP/1.1 503 ")
    assert world.among.refusals == {"unavailable": 1}  # of this one it knows nothing
    assert world.among.buffered == 600
    await first.send(b"a" * 300)
    assert first.heard.endswith(b"hello")
    assert world.among.buffered == 0
    third = world.client()
    await third.send(post + b"a" * 900)
    assert third.heard.endswith(b"hello")


@awaited
async def test_a_bad_chunk_ends_the_work_and_is_told_if_nothing_was_said() -> None:
    application = Endless()
    world = World(application)
    client = world.client()
    await client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"zz\r\n")
    assert client.heard.startswith(b"HTTP/1.1 400 ")
    assert b"/x: " in client.heard
    assert application.cancelled == 1
    assert not world.among.refusals  # the application notes it


class Sinking:
    """Answers through the sink, in whatever steps a test asks for."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        edge = edge_of(scope)
        assert edge is not None
        assert cancels(scope)
        self.sinks.append(edge.sink)
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            self.cancelled = True


@awaited
async def test_a_sink_writes_at_once_and_its_end_is_the_answers_end() -> None:
    application = Sinking()
    client = World(application).client()
    await client.send(GET)
    sink = application.sinks[0]
    sink.begin(200, [])
    assert client.transport.writes == 0
    sink.write(b"abc")
    assert client.heard == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    sink.end()
    assert client.heard.endswith(b"abc\r\n0\r\n\r\n")
    await client.send(GET)
    assert client.transport.writes == 2
    client.go()
    await settle()
    assert application.cancelled


@awaited
async def test_a_sink_tells_when_the_client_has_much_to_take_and_when_no_more() -> None:
    application = Sinking()
    client = World(application).client()
    await client.send(GET)
    sink = application.sinks[0]
    seen = [sink.paused]
    sink.on_resume = lambda: seen.append(sink.paused)
    client.connection.pause_writing()
    seen.append(sink.paused)
    client.connection.resume_writing()
    assert seen == [False, True, False]


@awaited
async def test_send_waits_while_the_client_has_much_to_take() -> None:
    steps: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for step in range(3):
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            steps.append(step)
            client.connection.pause_writing()

    client = World(application).client()
    await client.send(GET)
    assert steps == [0]
    client.connection.resume_writing()
    await settle()
    assert steps == [0, 1]
    client.go()
    await settle()
