"""A silent stream is pinged, at the moment that its silence is long enough, and never after its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec
from starlette.types import Message

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, ToolCallDelta
from localmodels.core.errors import RunnerDied
from localmodels.dialects.anthropic import Anthropic, answers
from localmodels.flows.visit import Visit
from localmodels.server.inference import Codec, EventRoute
from localmodels.server.pings import Pulse, awake
from localmodels.server.wire import VISIT

PING = b"event: ping\n\n"


class Time:
    """A clock that stands still; who sleeps waits until somebody passes the time."""

    def __init__(self) -> None:
        self._now = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self._now + seconds, woken))
        await woken.wait()

    async def passes(self, seconds: float) -> None:
        """Wakes whoever has slept enough, and lets them act."""
        await settled()
        self._now += seconds
        for until, woken in self._sleepers:
            if until <= self._now:
                woken.set()
        await settled()


async def settled() -> None:
    """Lets every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


class Line:
    """A client's end."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def send(self, message: Message) -> None:
        assert message["type"] == "http.response.body"
        assert message["more_body"]
        self.bodies.append(message["body"])


def body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


def test_silence_is_pinged_and_talk_is_not() -> None:
    async def run() -> tuple[list[bytes], int]:
        time, line = Time(), Line()
        async with awake(line.send, Pulse(PING, 15.0, time.sleep, time.now)) as say:
            await say(body(b"a"))
            await time.passes(14.9)
            await say(body(b"b"))
            await time.passes(14.9)  # 29.8 s after the start, but only 14.9 s of silence
            await time.passes(0.1)
            await time.passes(15.0)
            await say(body(b"c"))
        before = len(line.bodies)
        await time.passes(100.0)
        return line.bodies, len(line.bodies) - before

    assert asyncio.run(run()) == ([b"a", b"b", PING, PING, b"c"], 0)


def test_a_writer_that_waits_is_silent() -> None:
    async def run() -> list[bytes]:
        time, line = Time(), Line()
        async with awake(line.send, Pulse(PING, 15.0, time.sleep, time.now)) as say:
            for _ in range(3):
                await time.passes(7.5)
                await say(body(b""))
        return line.bodies

    assert asyncio.run(run()) == [PING]


def test_without_a_pulse_there_is_nothing_to_say() -> None:
    async def run() -> bool:
        line = Line()
        async with awake(line.send, None) as say:
            return say == line.send

    assert asyncio.run(run())


def test_a_broken_stream_is_not_pinged_any_more() -> None:
    async def run() -> list[bytes]:
        time, line = Time(), Line()
        try:
            async with awake(line.send, Pulse(PING, 15.0, time.sleep, time.now)):
                raise ZeroDivisionError
        except ZeroDivisionError:
            await time.passes(100.0)
        return line.bodies

    assert asyncio.run(run()) == []


DIALECT = Anthropic()
ASKED = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "?"}]}


class Slow:
    """An answer whose parts come when they are let go."""

    def __init__(self, *, breaks: bool) -> None:
        self.goes_on = asyncio.Semaphore(0)
        self._breaks = breaks

    async def chat(self, request: ChatRequest, visit: Visit) -> AsyncGenerator[list[Event], None]:
        yield [Chunk("a")]
        await self.goes_on.acquire()
        yield [Chunk(tool_calls=(ToolCallDelta(0, "c", "f", "{}"),))]  # of which the writer says nothing yet
        await self.goes_on.acquire()
        if self._breaks:
            raise RunnerDied("gone")
        yield [Done("tool_calls")]


async def answered(*, breaks: bool) -> list[Message]:
    """What a route sends that is silent for 20 s, then hears of a call, and is silent for 20 s again."""
    time, slow, sent = Time(), Slow(breaks=breaks), list[Message]()
    codec = Codec(DIALECT.read_chat, slow.chat, DIALECT.chat_writer, DIALECT.write_chat_answer)
    route = EventRoute(DIALECT, codec, "msg_", pulse=Pulse(answers.PING, 15.0, time.sleep, time.now))
    received = [{"type": "http.request", "body": msgspec.json.encode(ASKED), "more_body": False}]

    async def receive() -> Message:
        return received.pop() if received else await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    answer = asyncio.ensure_future(
        route({"type": "http", "method": "POST", "path": "/v1/messages", "headers": [], VISIT: Visit()}, receive, send)
    )
    for _ in range(2):
        await time.passes(15.0)
        await time.passes(5.0)
        slow.goes_on.release()
    await answer
    await time.passes(100.0)
    return sent


def kinds(message: Message) -> list[str]:
    """The names of the events in a piece."""
    return [line[7:].decode() for line in message["body"].split(b"\n") if line.startswith(b"event: ")]


def test_a_route_pings_while_its_answer_is_silent() -> None:
    start, *pieces = asyncio.run(answered(breaks=False))
    assert start["status"] == 200
    assert [kinds(piece) for piece in pieces] == [
        ["message_start", "content_block_start", "content_block_delta"],
        ["ping"],
        ["ping"],  # a call that is not yet told is silence too
        ["content_block_stop", "content_block_start", "content_block_delta", "content_block_stop",
         "message_delta", "message_stop"],
        [],
    ]  # fmt: skip
    assert [piece.get("more_body", False) for piece in pieces] == [True] * 4 + [False]


def test_an_answer_that_breaks_off_ends_with_its_error() -> None:
    pieces = asyncio.run(answered(breaks=True))
    assert kinds(pieces[-1]) == ["error"]
    assert not pieces[-1].get("more_body")
    assert not any("message_stop" in kinds(piece) for piece in pieces[1:])
