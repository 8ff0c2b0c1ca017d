"""What is kept of requests and answers, of whom, and that nobody is disturbed by it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from threading import Event
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.awaited import awaited

from localmodels.core.access import STRANGER, Caller
from localmodels.core.errors import DiskFull, LocalModelsError, ShuttingDown
from localmodels.flows.visit import Visit
from localmodels.server.capture import MOST_WAITING, Capture, pause
from localmodels.server.edge.seam import EDGE, Sink, edge_of
from localmodels.server.tape import MOST_BODY, Memory
from localmodels.server.wire import VISIT

SOMEBODY = Caller("key_1", "mine", frozenset({"infer"}))
AT = 1_795_000_000_500_000_000
HEAD = [(b"content-type", b"application/json"), (b"authorization", b"Bearer sk-canary"), (b"x-api-key", b"sk-canary"),
        (b"cookie", b"canary"), (b"anthropic-api-key", b"canary"), (b"x-localmodels-key", b"canary"),
        (b"user-agent", b"ollama-python/0.6"), (b"x-stainless-lang", b"python")]  # fmt: skip


class Kept:
    """Files in memory."""

    def __init__(self, error: LocalModelsError | None = None) -> None:
        self.files: dict[str, Any] = {}
        self.expired: list[tuple[float, int]] = []
        self.error = error
        self.held = 0

    def keep(self, name: str, data: bytes, quota: int) -> None:
        if self.error is not None:
            raise self.error
        self.files[name] = json.loads(data)
        self.held += len(data)

    def expire(self, age: float, quota: int) -> None:
        self.expired.append((age, quota))
        if self.error is not None:
            raise self.error


class Edgy:
    """An edge whose sink writes down what it is told."""

    cancels = True
    refusal = ShuttingDown("x")

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.on_resume: Callable[[], None] | None = None
        self.paused = True

    @property
    def sink(self) -> Sink:
        return self

    def stream_body(self) -> None:
        self.heard.append("stream_body")

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.heard.append((status, list(headers)))

    def write(self, data: bytes) -> None:
        self.heard.append(data)

    def end(self, data: bytes = b"") -> None:
        self.heard.append(data)


def capturing(kept: Kept, memory: Memory | None = None) -> Capture:
    return Capture(kept, lambda at, request_id: f"{at}-{request_id}", "/there", lambda: AT, lambda: 2_500_000, memory)


async def ask(
    capture: Capture,
    *,
    body: bytes = b'{"q": 1}',
    pieces: Iterable[bytes] = (b"hel", b"lo"),
    caller: Caller = SOMEBODY,
    operation: str = "chat",
    edge: Edgy | None = None,
    fails: BaseException | None = None,
) -> list[Message]:
    """Asks an application that streams these pieces; gives what the client heard."""
    heard: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        visit = scope[VISIT] = Visit("req_1", caller, started=500_000)
        visit.operation, visit.server = operation, "box"
        visit.model, visit.listed = "tiny", True
        while (await receive()).get("more_body"):
            pass
        head = [(b"content-type", b"text/plain")]
        if edge is not None:
            found = edge_of(scope)
            assert found is not None
            found.sink.begin(200, head)
            for piece in pieces:
                found.sink.write(piece)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": head})
            for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if fails is not None:
            visit.error = fails if isinstance(fails, LocalModelsError) else None
            raise fails
        if edge is not None:
            edge_of(scope).sink.end(b"!")  # type: ignore[union-attr]
        else:
            await send({"type": "http.response.body", "body": b"!"})

    parts = [body[:4], body[4:]]

    async def receive() -> Message:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        heard.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/chat",
        "headers": HEAD,
        "query_string": b"key=canary",
    }
    if edge is not None:
        scope["extensions"] = {EDGE: edge}
    await capture.around(application)(scope, receive, send)
    return heard


def kept_of(
    *asking: Callable[[Capture], Awaitable[object]], kept: Kept | None = None, memory: Memory | None = None
) -> Kept:
    """What has been kept when all of it was asked and the server has ended."""
    kept = kept or Kept()

    async def main() -> None:
        capture = capturing(kept, memory)
        capture.adopt(60.0, 1000)
        async with capture:
            for one in asking:
                await one(capture)

    asyncio.run(main())
    return kept


def test_a_request_and_its_answer_are_kept_as_they_were() -> None:
    ((name, one),) = kept_of(ask).files.items()
    assert name == f"{AT}-req_1"
    assert one == {
        "id": "req_1",
        "at": "2026-11-18T11:06:40.500+00:00",
        "ms": 2.0,
        "method": "POST",
        "path": "/api/chat",
        "key": "key_1",
        "request": {
            "headers": [
                ["content-type", "application/json"],
                ["user-agent", "ollama-python/0.6"],
                ["x-stainless-lang", "python"],
            ],
            "body": '{"q": 1}',
            "encoding": "utf-8",
            "size": 8,
            "cut": False,
        },
        "status": 200,
        "answer": {
            "headers": [["content-type", "text/plain"]],
            "body": "hello!",
            "encoding": "utf-8",
            "size": 6,
            "cut": False,
        },
        "model": "tiny",
        "server": "box",
    }


def test_no_header_that_carries_a_key_is_a_part_of_it() -> None:
    assert "canary" not in json.dumps(kept_of(ask).files)


@pytest.mark.parametrize(
    ("age", "seconds"), [(0.0, 60.0), (0.001, 0.5), (5.0, 0.5), (60.0, 6.0), (600.0, 60.0), (86400.0, 60.0)]
)
def test_somebody_looks_often_enough_and_never_all_the_time(age: float, seconds: float) -> None:
    assert pause(age, 60.0) == seconds


def test_a_defect_with_one_loses_that_one_alone_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def asking(capture: Capture) -> None:
        kept.error = ZeroDivisionError()  # type: ignore[assignment]
        await ask(capture)
        figures.append(capture)

    kept, figures = Kept(), list[Capture]()
    with caplog.at_level(logging.CRITICAL):
        kept_of(asking, kept=kept)
    assert [reading.value for reading in figures[0].readings()] == [0, 0, 1]


def test_the_client_hears_what_it_would_have_heard() -> None:
    async def main() -> None:
        off, on = capturing(Kept()), capturing(Kept())
        on.adopt(60.0, 1000)
        async with on:
            assert await ask(on) == await ask(off)

    asyncio.run(main())


def test_what_goes_through_the_sink_is_kept_too_and_arrives() -> None:
    edge = Edgy()
    kept = kept_of(lambda capture: ask(capture, edge=edge))
    (one,) = kept.files.values()
    assert (one["status"], one["answer"]["body"]) == (200, "hello!")
    assert edge.heard == [(200, [(b"content-type", b"text/plain")]), b"hel", b"lo", b"!"]


def test_the_edge_behind_the_tape_is_the_edge() -> None:
    edge = Edgy()
    seen: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        found = edge_of(scope)
        assert found is not None
        found.stream_body()
        sink = found.sink
        sink.on_resume = seen.clear
        seen.append((found.cancels, found.refusal, sink.paused, sink.on_resume))

    async def asking(capture: Capture) -> None:
        scope = {"type": "http", "headers": [], "extensions": {EDGE: edge}}
        await capture.around(application)(scope, None, None)  # type: ignore[arg-type]

    assert kept_of(asking).files == {}  # nobody knows who it was
    assert seen == [(True, edge.refusal, True, edge.on_resume)]
    assert edge.on_resume == seen.clear
    assert edge.heard == ["stream_body"]


@pytest.mark.parametrize("whom", [{"caller": STRANGER}, {"operation": ""}])
def test_strangers_and_what_asks_no_model_are_not_kept(whom: dict[str, Any]) -> None:
    memory = Memory(100)
    assert kept_of(lambda capture: ask(capture, **whom), memory=memory).files == {}
    assert memory.left == 100


def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came() -> None:
    async def asking(capture: Capture) -> None:
        with pytest.raises(ShuttingDown):
            await ask(capture, fails=ShuttingDown("x"))
        with pytest.raises(asyncio.CancelledError):
            await ask(capture, fails=asyncio.CancelledError())

    kept = Kept()
    kept_of(asking, kept=kept)
    (one,) = kept.files.values()  # the second has the same name here
    assert (one["answer"]["body"], one["answer"]["cut"]) == ("hello", True)


def test_its_error_is_named() -> None:
    async def asking(capture: Capture) -> None:
        with pytest.raises(ShuttingDown):
            await ask(capture, fails=ShuttingDown("x"))

    (one,) = kept_of(asking).files.values()
    assert (one["error"], one["status"]) == ("shutting_down", 200)


def test_what_the_edge_has_told_counts_where_the_application_told_nothing() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        visit = scope[VISIT] = Visit("req_1", SOMEBODY)
        visit.operation, visit.error = "chat", ShuttingDown("x")
        raise asyncio.CancelledError

    async def asking(capture: Capture) -> None:
        scope = {"type": "http", "method": "POST", "path": "/api/chat", "headers": []}
        with pytest.raises(asyncio.CancelledError):
            await capture.around(application)(scope, None, None)  # type: ignore[arg-type]

    (one,) = kept_of(asking).files.values()
    assert one["status"] == 503
    assert one["request"] == {"headers": [], "body": "", "encoding": "utf-8", "size": 0, "cut": True}  # nobody read it


def test_bytes_that_are_no_text_are_kept_too() -> None:
    (one,) = kept_of(lambda capture: ask(capture, body=b"\xff\xfeabc")).files.values()
    assert (one["request"]["body"], one["request"]["encoding"]) == ("//5hYmM=", "base64")


def test_text_may_be_cut_within_a_character() -> None:
    (one,) = kept_of(lambda capture: ask(capture, pieces=["ü".encode() * MOST_BODY])).files.values()
    assert one["answer"]["body"] == "ü" * (MOST_BODY // 2)
    (one,) = kept_of(lambda capture: ask(capture, pieces=["xü".encode() + "ü".encode() * MOST_BODY])).files.values()
    assert one["answer"]["body"] == "x" + "ü" * ((MOST_BODY - 1) // 2)


def test_text_that_ends_within_a_character_and_is_whole_is_none() -> None:
    (one,) = kept_of(lambda capture: ask(capture, body="aü".encode()[:-1])).files.values()
    assert one["request"]["encoding"] == "base64"


def test_of_a_large_body_the_beginning_is_kept() -> None:
    (one,) = kept_of(lambda capture: ask(capture, pieces=[b"x" * (MOST_BODY - 1), b"yyy"])).files.values()
    answer = one["answer"]
    assert (answer["size"], answer["cut"]) == (MOST_BODY + 3, True)
    assert answer["body"] == "x" * (MOST_BODY - 1) + "y"


def test_when_there_is_no_memory_left_bodies_are_cut_and_it_comes_back() -> None:
    memory = Memory(10)
    kept = kept_of(ask, memory=memory)
    (one,) = kept.files.values()
    assert (one["request"]["cut"], one["answer"]["cut"]) == (False, True)
    assert one["answer"]["body"] == "he"
    assert memory.left == 10


def test_nothing_is_kept_while_it_is_off_and_what_was_kept_goes() -> None:
    kept = Kept()

    async def main() -> None:
        capture = capturing(kept)
        async with capture:
            await ask(capture)
            capture.adopt(60.0, 1000)
            capture.adopt(0.0, 1000)
            await ask(capture)

    asyncio.run(main())
    assert kept.files == {}
    assert kept.expired[-1] == (0.0, 1000)


def test_what_is_turned_off_before_it_is_written_is_not_kept() -> None:
    async def asking(capture: Capture) -> None:
        await ask(capture)
        capture.adopt(0.0, 1000)

    kept = kept_of(asking)
    assert kept.files == {}


def test_while_it_is_off_nothing_stands_between() -> None:
    async def main() -> None:
        awaitable = asyncio.get_running_loop().create_future()
        application = capturing(Kept()).around(lambda scope, receive, send: awaitable)
        given = application({"type": "http"}, None, None)  # type: ignore[arg-type]
        assert given is awaitable

    asyncio.run(main())


def test_that_it_is_on_is_told_once_with_where_and_how_to_end_it(caplog: pytest.LogCaptureFixture) -> None:
    async def asking(capture: Capture) -> None:
        capture.adopt(60.0, 1000)
        capture.adopt(0.0, 1000)

    with caplog.at_level(logging.WARNING):
        kept_of(asking)
    (record,) = caplog.records
    told = record.getMessage()
    assert "/there" in told
    assert "prompts and all" in told
    assert "1m" in told
    assert "`capture` at 0" in told


def test_what_the_disk_refuses_is_lost_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept(DiskFull("disk full"))
    figures: list[float] = []

    async def main() -> None:
        capture = capturing(kept)
        capture.adopt(60.0, 1000)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                async with capture:
                    await ask(capture)
                    await ask(capture)
            kept.error = None
            async with capture:
                await ask(capture)
        figures.extend(reading.value for reading in capture.readings())

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if "prompts" not in record.getMessage()] == [
        "what is asked and answered cannot be kept: disk full",
        "what was asked and answered cannot be removed from /there: disk full",
    ]
    assert figures == [kept.held, 1, 4]


@awaited
async def test_what_could_not_be_removed_is_tried_again() -> None:
    class Stuck(Kept):
        def expire(self, age: float, quota: int) -> None:
            self.expired.append((age, quota))
            loop.call_soon_threadsafe(looked.set)
            if len(self.expired) == 1:
                raise DiskFull("no")

    loop, looked = asyncio.get_running_loop(), asyncio.Event()
    kept = Stuck()
    capture = Capture(kept, lambda at, request_id: "x", "/there", look=0.0)
    async with capture:
        while len(kept.expired) < 2:
            await looked.wait()
            looked.clear()


@awaited
async def test_nobody_waits_for_the_disk() -> None:
    written = Event()

    class Slow(Kept):
        def keep(self, name: str, data: bytes, quota: int) -> None:
            written.wait(60)
            super().keep(name, data, quota)

    kept = Slow()
    capture = capturing(kept)
    capture.adopt(60.0, 1000)
    async with capture:
        for _ in range(3):
            assert (await ask(capture))[-1]["body"] == b"!"
        assert kept.files == {}
        written.set()
    assert len(kept.files) == 1  # the three have one name here


@awaited
async def test_more_than_the_disk_keeps_up_with_is_lost_and_counted() -> None:
    written = Event()

    class Slow(Kept):
        def expire(self, age: float, quota: int) -> None:
            written.wait(60)

    kept, memory = Slow(), Memory()
    before = memory.left
    capture = capturing(kept, memory)
    capture.adopt(60.0, 1000)
    async with capture:
        for _ in range(MOST_WAITING + 5):
            await ask(capture)
            await asyncio.sleep(0)
        lost = next(reading.value for reading in capture.readings() if reading.name == "localmodels_captures_lost")
        assert lost >= 4  # one may have been taken before the disk hung
        written.set()
    assert memory.left == before
