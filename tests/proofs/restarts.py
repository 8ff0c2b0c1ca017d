"""Ten restarts under load, of a server whose socket outlives it: nobody is refused, and no request is lost (F15).

What holds the socket is this process, as systemd would. Its clients keep their connections and never ask twice, so that
every request that meets a closing door is seen. Most are relayed; some go to our own engine, whose model has to be
loaded anew each time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import aiohttp
from benchmarks.gateway import sides
from tests.proofs.claims import Claim, timed

# Makes the socket descriptor 3 of a program that is told so, as systemd does (sd_listen_fds(3)).
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
CLIENTS = 16
OWN = 2  # of them ask our own engine
PATIENCE = 60.0
LONGEST = 10.0


class Asked:
    """What became of all requests."""

    def __init__(self) -> None:
        self.good = 0
        self.own = 0
        self.longest = 0.0
        self.failures: list[str] = []
        self.closed: list[str] = []
        self.enough = asyncio.Event()
        self._next = 0

    def wait_for(self, more: int) -> asyncio.Event:
        """Is set when so many more have been answered."""
        self._next = self.good + more
        self.enough.clear()
        return self.enough

    def answered(self, took: float, *, own: bool) -> None:
        """One was, well."""
        self.good += 1
        self.own += own
        self.longest = max(self.longest, took)
        if self.good >= self._next:
            self.enough.set()

    def failed(self, why: str) -> None:
        """One was not."""
        self.failures.append(why)


async def proof(restarts: int = 10, each: int = 1000) -> list[Claim]:
    """A restart after so many answers, and as many after the last."""
    asked, statuses = Asked(), list[int]()
    with TemporaryDirectory() as home, socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with sides.mock(frozenset(os.sched_getaffinity(0))) as mock:
            (Path(home) / "localmodels.toml").write_text(sides.OURS.format(upstream=mock.port))
            over = asyncio.Event()
            tasks = [asyncio.create_task(client(url, asked, over, own=number < OWN)) for number in range(CLIENTS)]
            for _ in range(restarts):
                async with serving(home, listener) as process:
                    await asyncio.wait_for(asked.wait_for(each).wait(), PATIENCE)
                    process.send_signal(signal.SIGTERM)
                    statuses.append(await asyncio.wait_for(process.wait(), PATIENCE))
            async with serving(home, listener):
                await asyncio.wait_for(asked.wait_for(each).wait(), PATIENCE)
                over.set()
                await asyncio.gather(*tasks)
    return [
        Claim(f"{restarts} restarts", statuses == [0] * restarts, f"statuses {sorted({*statuses})}"),
        Claim(
            "none was refused or broken off", not asked.failures, f"{len(asked.failures)} were: {asked.failures[:3]}"
        ),
        # A client that sleeps through the moment which it has on a kept connection finds it closed.
        timed("none met a closing connection", not asked.closed, f"{len(asked.closed)} did"),
        Claim("requests answered", asked.good >= (restarts + 1) * each, f"{asked.good}"),
        Claim("some of them by our own engine", asked.own >= restarts, f"{asked.own}"),
        timed("the longest took no longer than a start", asked.longest <= LONGEST, f"{asked.longest:.1f} s"),
    ]


@asynccontextmanager
async def serving(home: str, listener: socket.socket) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server on this socket; it answers by then."""
    words = ("-m", "localmodels", "serve", "--json", "--home", home, "--log-level", "warning")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HAND_OVER, str(listener.fileno()), sys.executable, *words),
        pass_fds=(listener.fileno(),),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        told = json.loads(await process.stdout.readline())
        assert told["url"].endswith(f":{listener.getsockname()[1]}")
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), PATIENCE)


async def client(url: str, asked: Asked, over: asyncio.Event, *, own: bool) -> None:
    """Asks again and again, each time once."""
    body = {
        "model": "localmodels" if own else "mock/mock",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 4,
    }
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as session:
        while not over.is_set():
            begun = monotonic()
            try:
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    text = await response.text()
            except aiohttp.ServerDisconnectedError as error:
                asked.closed.append(repr(error))
            except aiohttp.ClientError as error:
                asked.failed(repr(error))
            else:
                if response.status != 200 or not json.loads(text)["choices"][0]["finish_reason"]:
                    asked.failed(f"{response.status}: {text[:200]}")
                else:
                    asked.answered(monotonic() - begun, own=own)
