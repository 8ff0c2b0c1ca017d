"""``python -m benchmarks.gateway.relay URL``: the least that Python's usual parts can do before a back end.

uvicorn, Starlette and aiohttp, one route, no checks: bytes in, bytes out. It prints ``{"port": …}`` and ends with
SIGTERM.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def app(upstream: str) -> Starlette:
    """Relays to this address."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
            app.state.session = session
            yield

    async def relay(request: Request) -> Response:
        answer = await request.app.state.session.post(
            upstream + request.url.path, data=await request.body(), headers={"content-type": "application/json"}
        )
        if answer.headers["content-type"] == "application/json":
            async with answer:
                return Response(await answer.read(), answer.status, media_type="application/json")
        return StreamingResponse(pieces(answer), answer.status, media_type="text/event-stream")

    return Starlette(routes=[Route("/{path:path}", relay, methods=["POST"])], lifespan=lifespan)


async def pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """As they come."""
    async with answer:
        async for piece in answer.content.iter_any():
            yield piece


def main() -> None:
    """Serves the address that is the only argument."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(
        app(sys.argv[1]), loop="uvloop", http="httptools", log_level="warning", access_log=False, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
