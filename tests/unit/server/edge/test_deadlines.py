"""Who is slow is told so and goes; who is only waited for by us is not."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Receive, Scope, Send
from tests.awaited import awaited
from tests.hostile.framing import echo
from tests.unit.server.edge.scripted import BOUNDS, GET, Endless, World, hello, settle

from localmodels.core.errors import LocalModelsError
from localmodels.server.edge.connections import AT_ONCE
from localmodels.server.edge.seam import EDGE

POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"


@awaited
async def test_who_sends_nothing_is_closed_without_a_word() -> None:
    world = World(hello)
    client = world.client()
    world.later(BOUNDS.head_time - 1)
    assert client.state() == "open"
    world.later(1)
    assert client.state() == "closed"
    assert not client.heard


@awaited
async def test_a_head_has_ten_seconds_from_its_first_byte_however_it_comes() -> None:
    world = World(hello)
    client = world.client()
    for byte in b"GET /x HTT":
        await client.send(bytes([byte]))
        assert not client.heard
        world.later(1)
    assert client.heard.startswith(b"HTTP/1.1 408 ")
    assert b"/x: " in client.heard
    assert client.state() == "ended"
    assert world.among.refusals == {"request_timeout": 1}


@awaited
async def test_the_next_request_may_be_long_in_coming_but_not_for_ever() -> None:
    world = World(hello)
    client = world.client()
    for _ in range(3):
        world.later(BOUNDS.head_time / 2)
        await client.send(GET)
        world.later(BOUNDS.idle - 1)
        assert client.state() == "open"
        await client.send(GET)
    assert client.heard.count(b"200 OK") == 6
    world.later(BOUNDS.idle)
    assert client.state() == "closed"
    assert client.heard.count(b"HTTP/1.1") == 6


@awaited
async def test_the_head_of_a_request_that_was_sent_ahead_has_its_own_ten_seconds() -> None:
    gate = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    world = World(application)
    client = world.client()
    await client.send(GET + b"GET /x")
    world.later(1000)
    gate.set()
    await settle()
    assert client.heard.endswith(b"GET /|")
    world.later(BOUNDS.head_time - 1)
    assert client.state() == "open"
    world.later(1)
    assert b"HTTP/1.1 408 " in client.heard


@awaited
async def test_a_body_that_trickles_is_cut_off_and_the_work_for_it_ends() -> None:
    application = Endless()
    world = World(application)
    client = world.client()
    await client.send(POST)
    for _ in range(int(BOUNDS.body_grace) + 1):
        await client.send(b"a")
        assert not client.heard
        world.later(1)
    assert client.heard.startswith(b"HTTP/1.1 408 ")
    await settle()
    assert application.cancelled == 1


@awaited
async def test_a_body_at_the_least_rate_comes_through_unless_it_takes_a_minute() -> None:
    world = World(hello)
    client = world.client()
    await client.send(POST)
    for _ in range(int(BOUNDS.body_time) - 1):
        await client.send(b"a" * int(BOUNDS.body_rate))
        world.later(1)
        assert not client.heard
    world.later(1)
    assert client.heard.startswith(b"HTTP/1.1 408 ")


@awaited
async def test_a_body_that_was_fast_may_rest_but_not_for_long() -> None:
    world = World(hello)
    client = world.client()
    await client.send(POST, b"a" * 50_000)
    world.later(BOUNDS.body_rest - 1)
    assert not client.heard
    world.later(1)
    assert client.heard.startswith(b"HTTP/1.1 408 ")


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes a body as a stream."""
    scope["extensions"]["localmodels.edge"].stream_body()
    await hello(scope, receive, send)


@awaited
async def test_an_upload_lasts_as_long_as_it_comes() -> None:
    world = World(upload)
    client = world.client()
    await client.send(POST)
    for _ in range(99):
        await client.send(b"a" * 1000)
        world.later(1)
    assert not client.heard
    world.later(BOUNDS.body_rest)
    assert client.heard.startswith(b"HTTP/1.1 408 ")


@awaited
async def test_who_waits_to_be_asked_is_not_late() -> None:
    gate = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await hello(scope, receive, send)

    world = World(application)
    client = world.client()
    await client.send(POST.replace(b"Host", b"Expect: 100-continue\r\nHost"))
    world.later(1000)
    assert not client.heard
    gate.set()
    await settle()
    assert client.heard.endswith(b"100 Continue\r\n\r\n")
    world.later(BOUNDS.body_grace)
    assert b"HTTP/1.1 408 " in client.heard


@awaited
async def test_an_answer_may_take_its_time() -> None:
    application = Endless(begins=False)
    world = World(application)
    client = world.client()
    await client.send(GET)
    world.later(100_000)
    assert client.state() == "open"
    assert application.cancelled == 0


@awaited
async def test_who_takes_nothing_of_his_answer_is_given_up() -> None:
    application = Endless()
    world = World(application)
    client = world.client()
    await client.send(GET)
    client.connection.pause_writing()
    world.later(BOUNDS.blocked - 1)
    client.connection.resume_writing()
    client.connection.pause_writing()
    world.later(BOUNDS.blocked - 1)
    assert application.cancelled == 0
    world.later(1)
    await settle()
    assert client.state() == "aborted"
    assert application.cancelled == 1


@awaited
async def test_who_takes_nothing_of_his_last_answer_is_given_up_as_well() -> None:
    world = World(hello)
    client = world.client()
    await client.send(GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert client.state() == "ended"
    world.later(BOUNDS.linger)
    assert client.state() == "closed"
    world.later(BOUNDS.blocked)
    assert client.state() == "aborted"


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
@awaited
async def test_draining_gives_who_is_about_to_ask_a_moment_and_who_is_idle_a_shorter_one(begun: bytes) -> None:
    world = World(hello)
    idle, kept, fresh, slow = (world.client() for _ in range(4))
    await idle.send(GET)
    await kept.send(GET)
    for client in (fresh, slow):
        if begun:
            await client.send(begun)
    world.among.drain()
    await kept.send(GET)  # it was on its way: to close on it would lose it
    await fresh.send(GET[len(begun) :])
    for client in (kept, fresh):
        assert b"connection: close" in client.heard
        assert client.state() == "ended"
    assert idle.state() == "open"
    world.later(BOUNDS.parting)
    assert idle.state() == "closed"
    assert slow.state() == "open"
    world.later(BOUNDS.hurry)
    assert slow.over()


@awaited
async def test_draining_answers_what_a_client_sent_behind_a_stream() -> None:
    gate = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"b"})

    world = World(application)
    client = world.client()
    await client.send(GET)
    world.among.drain()
    await client.send(GET)
    gate.set()
    await settle()
    first, second = client.heard.split(b"HTTP/1.1 200 OK")[1:]
    assert (b"connection: close" in first, b"connection: close" in second) == (False, True)
    assert client.state() == "ended"


@awaited
async def test_draining_waits_for_no_head_that_drips() -> None:
    world = World(hello)
    client = world.client()
    await client.send(GET)
    world.among.drain()
    await client.send(b"GET / HT")
    world.later(BOUNDS.hurry)
    assert client.over()


@awaited
async def test_draining_sends_all_idle_ones_away_at_once() -> None:
    world = World(hello)
    clients = [world.client() for _ in range(20 * AT_ONCE)]
    for client in clients:
        await client.send(GET)
    world.among.drain()
    world.now += BOUNDS.parting
    next(world.among.sweep())  # one step: in portions it would take seconds, in which nobody new is answered
    assert {client.state() for client in clients} == {"closed"}


@awaited
async def test_draining_lets_answers_end_and_waits_for_them() -> None:
    gate = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"b"})
        await settle()

    world = World(application)
    client = world.client()
    await client.send(GET)
    world.among.drain()
    quiet = asyncio.create_task(world.among.quiet())
    await settle()
    gate.set()
    await settle()
    assert client.heard.endswith(b"0\r\n\r\n")
    assert client.state() == "open"  # its head has not said that it is the last: another request may be on its way
    world.later(BOUNDS.parting)
    assert client.state() == "closed"
    assert not quiet.done()
    client.go()
    await settle()
    await settle()
    assert quiet.done()


@awaited
async def test_what_is_cut_ends_and_who_has_nothing_of_his_answer_is_told() -> None:
    application = Endless()
    world = World(application)
    begun, idle = world.client(), world.client()
    await begun.send(GET)
    assert begun.heard
    world.among.drain()
    world.among.cut()
    assert (begun.state(), idle.state()) == ("aborted", "aborted")
    for client in (begun, idle):
        client.go()
    await settle()
    assert application.cancelled == 1
    await world.among.quiet()


@awaited
async def test_who_waits_for_his_answer_when_the_server_is_cut_off_gets_a_503() -> None:
    seen: list[LocalModelsError | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Future()
        finally:
            seen.append(scope["extensions"][EDGE].refusal)

    world = World(application)
    client = world.client()
    await client.send(GET)
    world.among.drain()
    world.among.cut()
    assert client.heard.startswith(b"HTTP/1.1 503 ")
    assert client.heard.endswith(b"/: the server is shutting down (of GET)")  # the application knows which it was
    assert client.state() == "ended"
    client.go()
    await settle()
    await world.among.quiet()
    assert [error and error.code for error in seen] == ["shutting_down"]
    assert not world.among.refusals  # the application notes it


@pytest.mark.parametrize("cut", [True, False])
@awaited
async def test_an_application_can_tell_who_has_left_from_who_was_cut(cut: bool) -> None:
    seen: list[LocalModelsError | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        try:
            await asyncio.Future()
        finally:
            seen.append(scope["extensions"][EDGE].refusal)

    world = World(application)
    client = world.client()
    await client.send(GET)
    if cut:
        world.among.cut()
    client.go()
    await settle()
    assert [error and error.code for error in seen] == (["shutting_down"] if cut else [None])
