"""Two thousand slow clients: others do not notice them (F6, V-31).

A third sends a head byte by byte, a third a body, a third takes nothing of an answer. Whoever was sent away comes again
at once, so there are as many all the while. They live in a process of their own, ``python -m tests.proofs.slow PORT
MANY``, and everybody but the gateway shares the other cores, or their work would be taken for its own.

What so many clients cost this machine whoever they visit is not the gateway's doing. So the others are compared with
themselves while as many slow clients visit somebody else: with ``PORT`` 0 a server of their own, which does hardly
anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import cast

import psutil
import uvloop
from benchmarks.gateway.cpu import Cores, share_out
from benchmarks.gateway.sides import PATH, Side, child
from tests.hostile.slow import Slow, visit
from tests.proofs.claims import Claim, share_of, timed
from tests.proofs.clients import Asking, ask, undisturbed
from tests.proofs.places import scene

from localmodels.server.http import make_room

RATE = 100.0  # requests a second of the others
MORE = 1.2  # times as long may 99 of 100 of them take
PAUSE = 1.0  # seconds between two bytes of a slow client
ARRIVAL = 200  # slow clients a second
PATIENCE = 60.0  # seconds until all are there
MIB = 2**20
MOST_EACH = 256 * 1024  # bytes that one may cost: what the gateway keeps of an answer that nobody takes
LATE = 8.0  # seconds after which somebody else sends them away, about as long as the gateway waits for head or body
ANSWERS = 10  # of 120 kB: more than the kernel keeps for one client, twice 256 KiB, and than we do


def kinds(port: int) -> Sequence[Slow]:
    """The three."""
    host = b"Host: 127.0.0.1:%d\r\n" % port
    head = b"GET /health HTTP/1.1\r\n" + host + b"X: "
    body = b"POST " + PATH.encode() + b" HTTP/1.1\r\n" + host + b"Content-Length: 100000\r\n\r\n{"
    # One after the other: what is in the kernel's keeping is not yet in ours.
    reading = (b"GET /openapi.json HTTP/1.1\r\n" + host + b"\r\n") * ANSWERS
    return (
        Slow("sends its head byte by byte", head, b"a", reads=True, heard=b"HTTP/1.1 408 ", pause=PAUSE),
        Slow("sends its body byte by byte", body, b" ", reads=True, heard=b"HTTP/1.1 408 ", pause=PAUSE),
        Slow("takes nothing of its answer", reading, b"", reads=False, heard=b""),
    )


async def proof(many: int = 2000, seconds: float = 30.0, *, last: bool = True) -> list[Claim]:
    """Others ask for so many seconds beside them, and before and after that beside as many who visit somebody else.

    Args:
        many: slow clients.
        seconds: beside the gateway's; and half of it before, and after.
        last: does everybody else on the machine come before the slow clients? On a busy one they would never begin.
    """
    cores, mine = share_out(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores.others)
    try:
        with undisturbed():
            return await seen(many, seconds, cores, last=last)
    finally:
        os.sched_setaffinity(0, mine)


async def seen(many: int, seconds: float, cores: Cores, *, last: bool) -> list[Claim]:
    """What is claimed."""
    async with scene(pieces=1, pause=0.0, cores=cores) as at:
        process = psutil.Process(at.gateway.pid)
        await asked(at.gateway, 1.0)
        before = await beside_others(at.gateway, cores.others, many, seconds / 2, last=last)
        files, memory = process.num_fds(), process.memory_info().rss
        async with slowly(at.gateway.port, cores.others, many, last=last) as (_, ended):
            arrived = await there(process, files, round(0.95 * many))
            beside = await asked(at.gateway, seconds)
            stayed = process.num_fds() - files
            grown = process.memory_info().rss - memory
        after = await beside_others(at.gateway, cores.others, many, seconds / 2, last=last)
        left = process.num_fds() - files
    usual = [*before, *after]
    every = usual + beside
    good = sum(one.status == 200 and one.whole for one in every)
    without, then = (share_of([one.took for one in some], 0.99) for some in (usual, beside))
    told = sum(ended[kind.name] for kind in kinds(0))
    return [
        Claim(f"{many} slow clients are there", arrived >= 0.95 * many, f"{arrived}"),
        timed("and stay, or come again", stayed >= 0.95 * many, f"{stayed}"),
        Claim("every other request is answered", good == len(every), f"{good} of {len(every)}"),
        Claim("who is late is told so", told == ended.total(), f"{told} of {ended.total()} that were sent away"),
        Claim("they cost what they may", grown <= many * MOST_EACH, f"{grown / MIB:.0f} MiB, {grown // many:,} each"),
        Claim("nothing of them stays open", left <= 16, f"{left} files more than before"),
        timed(
            "99 of 100 others take as long as if they were elsewhere",
            then <= MORE * without,
            f"{1e3 * then:.2f} ms, {1e3 * without:.2f} ms while they are elsewhere: {then / without:.2f} times",
        ),
    ]


async def asked(side: Side, seconds: float) -> list[Asking]:
    """An open loop of requests that are answered in one piece."""
    start, every = monotonic(), []
    for number in range(round(RATE * seconds)):
        await asyncio.sleep(max(0.0, start + number / RATE - monotonic()))
        every.append(await ask(side, stream=False))
    await asyncio.gather(*(one.end for one in every))
    return every


async def there(process: psutil.Process, before: int, many: int) -> int:
    """Waits until the gateway has so many more files open than before; how many more they are."""
    until = monotonic() + PATIENCE
    come: int
    while (come := process.num_fds() - before) < many and monotonic() < until:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.1)
    return come


async def beside_others(
    side: Side, cores: frozenset[int], many: int, seconds: float, *, last: bool
) -> Sequence[Asking]:
    """The same while as many slow clients visit somebody else."""
    async with slowly(0, cores, many, last=last) as (pid, _):
        await there(psutil.Process(pid), 0, 2 * round(0.95 * many))  # both ends are its own
        return await asked(side, seconds)


@asynccontextmanager
async def slowly(port: int, cores: frozenset[int], many: int, *, last: bool) -> AsyncIterator[tuple[int, Counter[str]]]:
    """So many of them, as long as the block lasts, by the process they live in; then how many were sent away, by what
    they were told if not that."""
    pipe = asyncio.subprocess.PIPE
    words = (sys.executable, "-m", "tests.proofs.slow", str(port), str(many), *(("last",) if last else ()))
    ended: Counter[str] = Counter()
    async with child(cores, *words, stdin=pipe, stdout=pipe) as process:
        yield process.pid, ended
        said, _ = await process.communicate(b"")  # and nothing more
        ended.update(json.loads(said))


class Elsewhere(asyncio.Protocol):
    """Somebody who sends everybody away after a while."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._end = asyncio.get_running_loop().call_later(LATE, self._send_away)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()

    def _send_away(self) -> None:
        self._transport.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        self._transport.close()


async def visited(port: int, many: int) -> Counter[str]:
    """They visit this port, or somebody else where it is 0."""
    if port:
        return await besiege(port, many)
    async with await asyncio.get_running_loop().create_server(Elsewhere, "127.0.0.1", 0, backlog=many) as server:
        return await besiege(server.sockets[0].getsockname()[1], many)


async def besiege(port: int, many: int) -> Counter[str]:
    """They come over some seconds, and come again, until nobody holds standard input any more."""
    ended: Counter[str] = Counter()

    async def client(kind: Slow) -> None:
        while True:
            heard = await visit(port, kind)
            ended[kind.name if heard.startswith(kind.heard) else heard[:80].decode("latin-1")] += 1

    async def arrive() -> None:
        for number in range(many):
            tasks.append(asyncio.create_task(client(some[number % len(some)])))
            await asyncio.sleep(1 / ARRIVAL)

    some, tasks = kinds(port), list[asyncio.Task[None]]()
    tasks.append(asyncio.create_task(arrive()))
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            ended[repr(result)] += 1
    return ended


if __name__ == "__main__":
    # Whoever is measured on the same core comes first, at once; a process that is only nicer ends its turn before.
    if "last" in sys.argv:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    make_room(2 * int(sys.argv[2]))
    print(json.dumps(uvloop.run(visited(int(sys.argv[1]), int(sys.argv[2])))))
