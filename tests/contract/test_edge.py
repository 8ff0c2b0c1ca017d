"""The edge over real connections: who leaves, who is slow, who sends too much, and the end of the server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest
import uvicorn
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send
from tests.contract.edge import LOOPS, Served, Streams, run, serving
from tests.garbage import left_over
from tests.hostile.framing import echo
from tests.hostile.slow import KINDS, visit

from localmodels.backends.fake.http import hang_up
from localmodels.core.address import Address
from localmodels.server import http, listeners
from localmodels.server.edge.bounds import Bounds
from localmodels.server.edge.connection import Connection
from localmodels.server.edge.exchange import Exchange
from localmodels.server.edge.reader import Reader
from localmodels.server.edge.server import EdgeServer
from localmodels.server.wire import attended, respond

BOUNDS = Bounds()
GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"
SILENT = b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"POST /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
SOON = 1.0  # seconds within which a client that left is noticed (contract)
SLOW = replace(BOUNDS, head_time=1.0, body_grace=1.0, blocked=1.0, idle=1.0, write_high=64 * 1024)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


def leave(writer: asyncio.StreamWriter, way: str) -> None:
    if way == "sends no more":
        writer.write_eof()
    else:
        hang_up(writer.transport, reset=way == "resets")


@pytest.mark.parametrize("way", ["closes", "resets", "sends no more"])
@pytest.mark.parametrize("sent", [SILENT, STREAM, HALF, SILENT + GET, STREAM + GET * 100], ids=len)
@pytest.mark.parametrize("loop", LOOPS)
def test_who_leaves_ends_the_work_for_him(loop: str, sent: bytes, way: str) -> None:
    async def main() -> None:
        streams = Streams()
        async with serving(streams) as served:
            for number in range(5):
                _, writer = await connect(served.port)
                writer.write(sent)
                await streams.until(lambda: streams.open == 1)
                leave(writer, way)
                async with asyncio.timeout(SOON):
                    await streams.until(lambda number=number: streams.ended == number + 1)  # type: ignore[misc]
                writer.close()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refusal_reaches_who_is_still_sending(loop: str) -> None:
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await respond(send, 413, b"too large")

    async def main() -> None:
        async with serving(refusing) as served:
            for _ in range(5):
                reader, writer = await connect(served.port)
                size = 8 * 2**20
                writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size)
                await writer.drain()
                assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
                writer.close()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_body_of_small_chunks_comes_whole(loop: str) -> None:
    async def main() -> None:
        async with serving(echo) as served:
            reader, writer = await connect(served.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"1\r\na\r\n" * 2**20 + b"0\r\n\r\n")
            await reader.readuntil(b"|")
            assert len(await reader.readexactly(2**20)) == 2**20
            writer.close()

    run(loop, main())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("loop", LOOPS)
def test_who_is_slow_is_sent_away_and_others_are_answered_meanwhile(loop: str, kind: object) -> None:
    slow = next(one for one in KINDS if one is kind)

    async def main() -> None:
        async with serving(Streams(), SLOW) as served:
            visits = [asyncio.create_task(visit(served.port, slow)) for _ in range(25)]
            answered = 0
            while not all(one.done() for one in visits):
                assert await asked(served) == b"GET /next|"
                answered += 1
                await asyncio.sleep(0.01)
            assert answered > 5
            told = [await one for one in visits]
            assert all(heard.startswith(slow.heard) and bool(heard) == bool(slow.heard) for heard in told if slow.reads)
            assert served.server.open <= 25  # ours, which linger

    run(loop, main())


async def asked(served: Served) -> bytes:
    reader, writer = await connect(served.port)
    try:
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        return await reader.readexactly(len(b"GET /next|"))
    finally:
        writer.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_draining_loses_no_stream_and_lets_nobody_in(loop: str) -> None:
    gate = asyncio.Event()

    async def tale(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begin ", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"end"})

    async def main() -> None:
        async with serving(tale) as served:
            clients = [await connect(served.port) for _ in range(200)]
            for _, writer in clients:
                writer.write(GET)
            for reader, _ in clients:
                await reader.readuntil(b"begin ")
            idle, bored = await connect(served.port)
            served.server.drain()
            with pytest.raises(OSError, match=r"."):
                await connect(served.port)
            gate.set()
            ends = await asyncio.gather(*(reader.read() for reader, _ in clients))
            assert all(end.endswith(b"3\r\nend\r\n0\r\n\r\n") for end in ends)
            assert await idle.read() == b""
            for _, writer in (*clients, (idle, bored)):
                writer.close()
            async with asyncio.timeout(5):
                await served.server.ended(60)
            assert served.server.busy == served.server.open == 0

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cut_stream_that_would_end_with_its_connection_breaks_it(loop: str) -> None:
    """Clients of HTTP/1.0 know no chunks: to them a connection that is closed in order is the end of the answer."""

    async def main() -> None:
        streams = Streams()
        async with serving(streams) as served:
            reader, writer = await connect(served.port)
            writer.write(STREAM.replace(b"HTTP/1.1", b"HTTP/1.0"))
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1)
            served.server.drain()
            await served.server.ended(0.01)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_outlasts_its_grace_is_cut_and_cleans_up(loop: str) -> None:
    async def main() -> None:
        streams = Streams()
        async with serving(streams) as served:
            _, writer = await connect(served.port)
            writer.write(SILENT)
            await streams.until(lambda: streams.open == 1)
            served.server.drain()
            await served.server.ended(0.01)
            assert streams.ended == 1
            writer.close()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_signals_end_the_server_and_reload_it(loop: str) -> None:
    async def main() -> None:
        ready, reloaded, drained = asyncio.Event(), asyncio.Event(), asyncio.Event()
        sockets = listeners.bind([Address("127.0.0.1", 0)], asked=True)
        serve = http.run(echo, sockets, drain=5, ready=ready.set, draining=drained.set, reload=reloaded.set)
        task = asyncio.create_task(serve)
        await ready.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await reloaded.wait()
        port = sockets[0].getsockname()[1]
        reader, writer = await connect(port)
        writer.write(GET)
        await reader.readuntil(b"GET /next|")
        os.kill(os.getpid(), signal.SIGTERM)
        await drained.wait()
        assert await reader.read() == b""
        writer.close()
        await task

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_who_waits_is_refused_while_others_may_still_end(loop: str) -> None:
    async def main() -> None:
        ready, refused, streams = asyncio.Event(), asyncio.Event(), Streams()
        sockets = listeners.bind([Address("127.0.0.1", 0)], asked=True)
        serve = http.run(streams, sockets, drain=1, ready=ready.set, draining=lambda: None, refusing=refused.set)
        task = asyncio.create_task(serve)
        await ready.wait()
        _, writer = await connect(sockets[0].getsockname()[1])
        writer.write(SILENT)
        await streams.until(lambda: streams.open == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await refused.wait()
        assert streams.ended == 0
        writer.close()
        await task

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_does_not_wait(loop: str) -> None:
    async def main() -> None:
        ready, drained = asyncio.Event(), asyncio.Event()
        streams = Streams()
        sockets = listeners.bind([Address("127.0.0.1", 0)], asked=True)
        task = asyncio.create_task(http.run(streams, sockets, drain=50, ready=ready.set, draining=drained.set))
        await ready.wait()
        _, writer = await connect(sockets[0].getsockname()[1])
        writer.write(SILENT)
        await streams.until(lambda: streams.open == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await drained.wait()
        assert streams.ended == 0
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await task
        assert streams.ended == 1
        writer.close()

    run(loop, main())


@pytest.mark.parametrize("host", ["edge", "uvicorn"])
@pytest.mark.parametrize("loop", LOOPS)
def test_an_endpoint_ends_with_its_client_under_either_server(loop: str, host: str) -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await attended(scope, receive, work(send))

    async def work(send: Send) -> None:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            ended.set()

    async def main() -> None:
        sockets = listeners.bind([Address("127.0.0.1", 0)], asked=True)
        async with asyncio.TaskGroup() as group:
            serving_it = group.create_task(HOSTS[host](application, sockets))
            _, writer = await connect(sockets[0].getsockname()[1])
            writer.write(GET)
            await begun.wait()
            writer.close()
            async with asyncio.timeout(SOON):
                await ended.wait()
            serving_it.cancel()

    run(loop, main())


async def under_the_edge(application: object, sockets: list[socket.socket]) -> None:
    async with EdgeServer(application, sockets, http.refuse):  # type: ignore[arg-type]
        await asyncio.Future()


async def under_uvicorn(application: object, sockets: list[socket.socket]) -> None:
    config = uvicorn.Config(application, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets)
    try:
        await asyncio.Future()
    finally:
        for one in server.servers:
            one.close()


HOSTS = {"edge": under_the_edge, "uvicorn": under_uvicorn}


POST = b"POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
CHUNKS = b"POST /next HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_who_has_gone_is_held_by_nobody(loop: str) -> None:
    async def main() -> None:
        streams = Streams()
        async with serving(streams) as served:
            with left_over(Connection, Exchange, Reader) as found:
                for sent in (GET, POST, CHUNKS, GET + POST + CHUNKS):
                    reader, writer = await connect(served.port)
                    writer.write(sent)
                    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                    leave(writer, "closes")
                for sent in (SILENT, STREAM, CHUNKS.replace(b"/next", b"/silent")):
                    _, writer = await connect(served.port)
                    writer.write(sent)
                    await streams.until(lambda: streams.open == 1)
                    leave(writer, "resets")
                    await streams.until(lambda: streams.open == 0)
                while served.server.open:  # noqa: ASYNC110  # who leaves tells nobody else
                    await asyncio.sleep(0.001)
                del reader, writer
                await asyncio.sleep(0)
            assert found == []

    run(loop, main())
