"""Thousands of requests over three servers, one of which is always killed, refuses, is unavailable or falls silent.

All of it through the gateway's own API, as its users see it: the servers are registered, requests come at a steady rate
in two dialects, whole and streamed. Every request has a number, and each server writes down which ones it begins to
answer: so nothing is generated twice but by those whose first server was killed or fell silent with them (F9, F11).
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, time_ns
from typing import Any, Literal, get_args

import httpx2
from msgspec import Struct, field
from prometheus_client.parser import text_string_to_metric_families
from tests.acceptance.serving import serve
from tests.fleet.behind import ANSWER
from tests.fleet.hosts import Behind, Entry, behind
from tests.proofs.claims import Claim

from localmodels.flows.connections.request_counts import ANSWERED, LEFT

Fault = Literal["killed", "refuse", "unavailable", "silent"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
NAMES = ("a", "b", "c")
KINDS = ("ollama", "openai", "ollama")
MODEL = "fake"
RATE = 60.0  # requests a second
FIRST_BYTE = 0.6  # seconds of silence that these servers are allowed
BAD = 2.5  # seconds that a fault lasts
MOST_FAILED = 5  # attempts that a server which takes none may cost, beside those that were under way when it began
MOST_CUT = 3  # answers that a killed server was in the middle of
BACK = 10.0  # seconds until a healed server is used again


class Asked(Struct):
    """One request.

    Attributes:
        wrong: how it ended, in words; empty if well.
        cut: was it told in good form that its answer broke off? Nothing else can be done once a byte of it was sent.
    """

    number: int
    wrong: str = ""
    cut: bool = False


class Spell(Struct, frozen=True):
    """A fault of one server, from then till then (nanoseconds since 1970).

    Attributes:
        under_way: requests that it was answering when it began.
        failed: requests that our gateway sent it and that failed, until it was well again.
    """

    server: str
    fault: Fault
    begin: int
    end: int
    under_way: int
    failed: int


class Seen(Struct, frozen=True):
    """What the run was."""

    asked: Sequence[Asked]
    spells: Sequence[Spell]
    entries: Sequence[Entry]
    under_way: int
    returned: Sequence[float]


class Standing(Struct, frozen=True):
    """What a gateway says of a server: requests that it answers now, and all that have failed."""

    under_way: int
    failed: int


class Run(Struct):
    """While it goes on."""

    asked: list[Asked] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    returned: list[float] = field(default_factory=list)
    under_way: int = 0
    most: int = 0


async def proof(requests: int = 5_000, seed: int = 1) -> list[Claim]:
    """All of it."""
    with TemporaryDirectory(prefix="fleet-") as folder:
        return claims(await seen(Path(folder), requests, seed))


async def seen(folder: Path, requests: int, seed: int) -> Seen:
    """The run."""
    draw = Random(seed)
    async with behind(folder, *NAMES) as servers, gateway(folder, servers) as client:
        run = Run()
        flood = asyncio.create_task(asking(client, run, requests, Random(seed + 1)))
        while not flood.done():
            await spell(client, run, servers, draw, flood)
        await flood
        entries = sorted((one for server in servers for one in server.entries()), key=lambda one: one.at)
    return Seen(run.asked, run.spells, entries, run.most, run.returned)


@asynccontextmanager
async def gateway(folder: Path, servers: Sequence[Behind]) -> AsyncIterator[httpx2.AsyncClient]:
    """Ours in front of them, and a client of it."""
    with serve("--log-level", "warning", home=folder / "home", log=folder / "log") as ours:
        async with httpx2.AsyncClient(base_url=ours.url, timeout=60.0, trust_env=False) as client:
            for server, kind in zip(servers, KINDS, strict=True):
                row = {"name": server.name, "url": server.url, "kind": kind, "first_byte": FIRST_BYTE, "idle": 2.0}
                made = await client.post("/api/servers/", json={**row, "max_concurrent": 64})
                assert made.status_code == 201, made.text
            yield client


async def spell(
    client: httpx2.AsyncClient, run: Run, servers: Sequence[Behind], draw: Random, flood: asyncio.Task[None]
) -> None:
    """One fault of one server; returns when that server is used again, or all requests were sent."""
    server, fault = draw.choice(servers), draw.choice(FAULTS)
    before, begin = await standing(client, server), time_ns()
    await (server.kill() if fault == "killed" else server.become(fault))
    await asyncio.sleep(BAD)
    after = await standing(client, server)
    await (server.start() if fault == "killed" else server.become("up"))
    healed = time_ns()
    run.spells.append(
        Spell(server.name, fault, begin, healed, before.under_way + after.under_way, after.failed - before.failed)
    )
    while not flood.done():
        if any(one.deed == "end" and one.at > healed for one in server.entries()):
            run.returned.append((time_ns() - healed) / 1e9)
            return
        await asyncio.sleep(0.05)


async def standing(client: httpx2.AsyncClient, server: Behind) -> Standing:
    """How a server stands with our gateway, by its metrics."""
    page = (await client.get("/metrics")).text
    under_way = failed = 0.0
    for family in text_string_to_metric_families(page):
        for name, labels, value, *_ in family.samples:
            if labels.get("server") != server.name:
                continue
            if name == "localmodels_server_in_flight":
                under_way += value
            elif name == "localmodels_server_requests_total" and labels["outcome"] not in (ANSWERED, LEFT):
                failed += value
    return Standing(round(under_way), round(failed))


async def asking(client: httpx2.AsyncClient, run: Run, requests: int, draw: Random) -> None:
    """All requests, at a steady rate whatever becomes of them."""
    start, tasks = monotonic(), []
    for number in range(requests):
        await asyncio.sleep(start + number / RATE - monotonic())
        one = Asked(number)
        run.asked.append(one)
        tasks.append(asyncio.create_task(ask(client, run, one, draw.choice(("ollama", "openai")), draw.random() < 0.5)))
    await asyncio.gather(*tasks)


async def ask(client: httpx2.AsyncClient, run: Run, one: Asked, dialect: str, stream: bool) -> None:
    """One request, and whether its answer is the one that it should be."""
    path = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}[dialect]
    question = [{"role": "user", "content": f"This is number {one.number}."}]
    run.under_way += 1
    run.most = max(run.most, run.under_way)
    try:
        answer = await client.post(path, json={"model": MODEL, "messages": question, "stream": stream})
        if answer.status_code != 200:
            one.wrong = f"{answer.status_code}: {answer.text[:200]}"
        elif stream and told_of_a_cut(answer.text):
            one.cut = True
        elif (said := said_in(dialect, answer.text, stream=stream)) != ANSWER:
            one.wrong = f"said {said!r}"
    except (httpx2.HTTPError, ValueError, LookupError, TypeError) as error:
        one.wrong = f"{type(error).__name__}: {error}"
    finally:
        run.under_way -= 1


def told_of_a_cut(text: str) -> bool:
    """Does a stream end with an error, and without any sign that it ended well?"""
    return text.strip().splitlines()[-1].removeprefix("data: ").startswith('{"error"')


def told_of(number: int, entries: Sequence[Entry]) -> str:
    """What the servers wrote of a request, in the order of time."""
    mine = [one for one in entries if one.number == number]
    return ", ".join(f"{one.server} {one.deed} {one.mode} +{(one.at - mine[0].at) / 1e9:.3f}" for one in mine)


def said_in(dialect: str, text: str, *, stream: bool) -> str:
    """What an answer says, if it came to its end; raises where it is none."""
    if dialect == "ollama":
        lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        assert_ended(lines[-1].get("done") is True, text)
        return "".join(line["message"]["content"] for line in lines)
    if not stream:
        choice = json.loads(text)["choices"][0]
        assert_ended(choice["finish_reason"] == "stop", text)
        return str(choice["message"]["content"])
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert_ended(events[-1] == "[DONE]", text)
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def assert_ended(whole: bool, text: str) -> None:
    """Raises where an answer has no end."""
    if not whole:
        raise ValueError(f"the answer has no end: {text[-200:]}")


def claims(run: Seen) -> list[Claim]:
    """What the run shows."""
    wrong = [one for one in run.asked if one.wrong]
    told = "; ".join(f"{one.number}: {one.wrong} ({told_of(one.number, run.entries)})" for one in wrong[:3])
    undeclared, declared = duplicates(run.entries)
    worst = max(run.spells, key=over, default=None)
    cost = f"{worst.failed} at most, {worst.under_way} of them under way when it began or ended" if worst else "none"
    slowest = max(run.returned, default=0.0)
    faults = ", ".join(f"{fault} {sum(one.fault == fault for one in run.spells)}" for fault in FAULTS)
    cut = sum(one.cut for one in run.asked)
    good = len(run.asked) - len(wrong) - cut
    return [
        Claim(
            "every request is answered", not wrong, f"{good} of {len(run.asked)}; {faults}{'; ' + told if told else ''}"
        ),
        Claim(
            "none is cut but by a kill in the middle of its answer, and is told so",
            cut <= MOST_CUT * sum(one.fault == "killed" for one in run.spells),
            f"{cut}",
        ),
        Claim(
            "nothing is generated twice but by the declared class",
            not undeclared,
            f"{len(undeclared)}, {declared} declared",
        ),
        Claim("no request is generated more than twice", thrice(run.entries) == 0, f"{thrice(run.entries)}"),
        Claim(
            "a server that takes none costs few attempts",
            worst is None or over(worst) <= MOST_FAILED,
            cost,
        ),
        Claim("a healed server is used again", slowest <= BACK, f"after {slowest:.1f} s at most"),
    ]


def duplicates(entries: Sequence[Entry]) -> tuple[list[int], int]:
    """Numbers of requests that were begun again although the first one had not failed; and how many had."""
    begun: dict[int, list[Entry]] = defaultdict(list)
    ended = {(one.server, one.number) for one in entries if one.deed == "end"}
    for one in entries:
        if one.deed == "begin":
            begun[one.number].append(one)
    again = {number: ones for number, ones in begun.items() if len(ones) > 1}
    undeclared = [
        number
        for number, ones in again.items()
        if any(one.mode != "silent" and (one.server, number) in ended for one in ones[:-1])
    ]
    return undeclared, len(again) - len(undeclared)


def thrice(entries: Sequence[Entry]) -> int:
    """Requests that were begun more than twice."""
    begun: dict[int, int] = defaultdict(int)
    for one in entries:
        begun[one.number] += one.deed == "begin"
    return sum(many > 2 for many in begun.values())


def over(spell: Spell) -> int:
    """Attempts that it cost, beside those that were under way when it began, or when it was well again."""
    return max(0, spell.failed - spell.under_way)
