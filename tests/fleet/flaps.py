"""A server that comes and goes, for good and for a blink, and servers that hang (F11).

Two servers have the same model and get requests all the time. One of them is killed and started again, refuses and
takes connections again; it must be shown as it is whenever it stays so, and be used again when it is well. Beside that,
servers that take every connection and never answer must hold nobody up.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, time_ns
from typing import Any

import httpx2
from msgspec import Struct
from tests.fleet.fronts import front, register, until
from tests.fleet.hosts import Behind, behind
from tests.proofs.claims import Claim, timed

from localmodels.backends.fake import FakeServer, Page, Wire

MODEL = "fake"
RATE = 20.0  # requests a second, for both servers together
FIRST_BYTE = 0.6  # seconds of silence that they are allowed
SOON = 10.0  # seconds within which a server is shown as it is, and used when it is well
LISTED = 2.0  # seconds that a list may take, whoever hangs
MOMENT = 1.5  # seconds after which nobody can have seen a server a moment ago
DAY = 86_400.0

# What of a hanging server's answers does not come: all; the rest of a body; the end of a head.
_NOTHING, _NO_END = Page(first=DAY), Page(body=b'{"models": []}', wire=Wire(at=9, then="stall"))
HANGING: Sequence[tuple[str, str, Page]] = (
    *((f"silent-{kind}", kind, _NOTHING) for kind in ("ollama", "openai", "llamacpp", "anthropic")),
    ("stalls", "ollama", _NO_END),
    ("endless", "ollama", Page(wire=Wire(head="endless"))),
)
ASKED = ("/api/version", "/api/tags", "/api/ps", "/v1/models", "/health", "/props", "/slots")
LISTS = ("/api/models/servers", "/api/servers/", "/api/tags", "/v1/models")


class Flap(Struct, frozen=True):
    """What a server did at last, and the seconds until that was seen: shown as it is, and used if it is well."""

    deed: str
    well: bool
    shown: float
    used: float


class Seen(Struct, frozen=True):
    """What the run was: flaps, and of each list its longest time and what it said that was not so."""

    flaps: Sequence[Flap]
    longest: Mapping[str, float]
    wrong: Sequence[str]
    back: float


async def proof(real: int = 10, quick: int = 100, looks: int = 8, seed: int = 1) -> list[Claim]:
    """So many flaps of each sort, and so many looks at each list while others hang."""
    with TemporaryDirectory(prefix="flaps-") as folder:
        return claims(await seen(Path(folder), real, quick, looks, Random(seed)))


async def seen(folder: Path, real: int, quick: int, looks: int, draw: Random) -> Seen:
    """The run."""
    filed = FakeServer()
    filed.pages.update(dict.fromkeys(ASKED, _NOTHING))
    async with behind(folder, "a", "b") as (one, other), filed, front(folder, settings=table(filed)) as client:
        for server in (one, other):
            await register(client, server.name, server.url, first_byte=FIRST_BYTE, idle=2.0, max_concurrent=64)
        async with asking(client):
            flaps = [flap for number in range(real) for flap in await _real(client, one, killed=number % 2 == 0)]
            flaps += [await _quick(client, one, draw) for _ in range(quick)]
            await one.become("up")
        longest, wrong = await _hung(client, other, looks)
        back = await _stopped(client, other, longest, wrong)
    return Seen(flaps, longest, wrong, back)


def table(server: FakeServer) -> str:
    """The settings of ours with one more server that hangs: one of the owner's file."""
    return f'[[servers]]\nname = "filed"\nurl = "{server.url}"\nkind = "ollama"\n'


@asynccontextmanager
async def asking(client: httpx2.AsyncClient) -> AsyncIterator[None]:
    """Requests go on, whatever becomes of them."""

    async def ask(number: int) -> None:
        question = [{"role": "user", "content": f"This is number {number}."}]
        await client.post("/api/chat", json={"model": MODEL, "messages": question, "stream": False})

    async def flood() -> None:
        start, number = monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                number += 1
                await asyncio.sleep(start + number / RATE - monotonic())
                tasks.create_task(ask(number))

    flooding = asyncio.create_task(flood())
    try:
        yield
    finally:
        flooding.cancel()
        await asyncio.wait((flooding,))


async def _real(client: httpx2.AsyncClient, server: Behind, *, killed: bool) -> tuple[Flap, Flap]:
    """It goes for as long as that is not seen, and comes again."""
    deed = "killed" if killed else "refuses"
    await (server.kill() if killed else server.become("refuse"))
    gone = await _flap(client, server, deed, well=False)
    await (server.start() if killed else server.become("up"))
    return gone, await _flap(client, server, deed, well=True)


async def _quick(client: httpx2.AsyncClient, server: Behind, draw: Random) -> Flap:
    """It comes and goes some times, and stays as it is at last."""
    well = draw.random() < 0.5
    for again in range(draw.randint(1, 5), -1, -1):
        await server.become("up" if well == (again % 2 == 0) else "refuse")
        await asyncio.sleep(draw.choice((0.0, 0.01, 0.1)) if again else 0.0)
    return await _flap(client, server, "quick", well=well)


async def _flap(client: httpx2.AsyncClient, server: Behind, deed: str, *, well: bool) -> Flap:
    since, begin = time_ns(), monotonic()

    async def shown() -> bool:
        row = await _row(client, "/api/servers/", server.name)
        return (row["available"], row["state"]) == ((True, "up") if well else (False, "down"))

    async def used() -> bool:
        return any(one.deed == "end" and one.at > since for one in server.entries())

    await until(shown, f"{server.name}, {deed}, is shown as it is ({well=})", within=3 * SOON)
    seen_after = monotonic() - begin
    if well:
        await until(used, f"{server.name}, {deed}, is used again", within=3 * SOON)
    return Flap(deed, well, seen_after, monotonic() - begin if well else 0.0)


async def _hung(client: httpx2.AsyncClient, healthy: Behind, looks: int) -> tuple[dict[str, float], list[str]]:
    """The longest that each list takes while servers of every sort hang, and what was said that is not so."""
    longest, wrong = dict.fromkeys(LISTS, 0.0), list[str]()
    async with AsyncExitStack() as stack:
        asked = []
        for name, kind, page in HANGING:
            server = await stack.enter_async_context(FakeServer())
            server.pages.update(dict.fromkeys(ASKED, page))
            asked.append(register(client, name, server.url, kind=kind))
        await asyncio.gather(*asked)
        names = {"filed", *(name for name, _, _ in HANGING)}
        for _ in range(looks):
            for path in LISTS:
                await _look(client, path, longest)
            for path in ("/api/models/servers", "/api/servers/"):
                rows = {row["name"]: row for row in (await client.get(path)).json()["servers"]}
                wrong += [f"{path}: {name} answers" for name in names if rows[name]["available"]]
                if not rows[healthy.name]["available"] or not rows[healthy.name]["models"]:
                    wrong.append(f"{path}: {healthy.name} does not answer")
        for row in (await client.get("/api/servers/")).json()["servers"]:
            if row["name"] in names and row["source"] == "api":
                await client.delete(f"/api/servers/{row['id']}")
    return longest, wrong


async def _stopped(client: httpx2.AsyncClient, server: Behind, longest: dict[str, float], wrong: list[str]) -> float:
    """One that was well until now hangs as a whole; gives the seconds until it is shown to answer again."""
    server.send(signal.SIGSTOP)
    await asyncio.sleep(MOMENT)
    for path in LISTS:
        await _look(client, path, longest)
    if (await _row(client, "/api/models/servers", server.name))["available"]:
        wrong.append(f"/api/models/servers: {server.name} answers although it is stopped")
    server.send(signal.SIGCONT)
    begin = monotonic()

    async def answers() -> bool:
        return bool((await _row(client, "/api/servers/", server.name))["available"])

    await until(answers, f"{server.name} answers again", within=3 * SOON)
    return monotonic() - begin


async def _look(client: httpx2.AsyncClient, path: str, longest: dict[str, float]) -> None:
    begin = monotonic()
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    longest[path] = max(longest[path], monotonic() - begin)


async def _row(client: httpx2.AsyncClient, path: str, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = (await client.get(path)).json()["servers"]
    return next(row for row in rows if row["name"] == name)


def claims(run: Seen) -> list[Claim]:
    """What the run shows; whoever was not seen at all raised before."""
    shown = max((one.shown for one in run.flaps), default=0.0)
    used = max((one.used for one in run.flaps), default=0.0)
    well = sum(one.well for one in run.flaps)
    slowest = max(run.longest.values())
    lists = ", ".join(f"{path} {seconds:.2f} s" for path, seconds in run.longest.items())
    return [
        Claim(
            "every flap ends in the true state",
            shown <= SOON,
            f"{len(run.flaps)}, {well} of them well, shown after {shown:.1f} s at most",
        ),
        Claim("a healed server is used again", used <= SOON, f"{well} times, after {used:.1f} s at most"),
        Claim("who hangs is shown not to answer, and who does not is", not run.wrong, "; ".join(run.wrong[:4])),
        timed("no list waits for those who hang", slowest <= LISTED, lists),
        Claim("nor ever as long as a look at one of them may take", slowest <= 2 * LISTED, f"{slowest:.2f} s"),
        Claim("a server that was stopped answers again when it goes on", run.back <= SOON, f"after {run.back:.1f} s"),
    ]
