"""The whole attack on one server, and what it comes to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import httpx2
from msgspec import Struct
from tests.acceptance.serving import PATIENCE, Served
from tests.hostile import bodies, described, framing, headers, hosts, keys
from tests.hostile.arena import arena, golden
from tests.hostile.arena import described as description
from tests.hostile.attack import Attack
from tests.hostile.attacker import HANG, Tally, attacked
from tests.hostile.stalls import Stall, read
from tests.hostile.watch import Seen, watching

MIB = 2**20
MOST_GROWTH = 50 * MIB
MOST_HEALTH = 0.1  # seconds
MOST_OWN = 0.3  # of the server's own, where others use the machine: not every wait for it can be told from one for us
SCOPES = ("list", "infer", "manage", "observe", "admin")

# Of what the requests are made: schemathesis on our own document, the corpora, raw bytes. A corpus that is used up
# begins again.
SHARES = {"described": 0.4, "bodies": 0.35, "texts": 0.15, "keys": 0.05, "raw": 0.05}


class Siege(Struct, frozen=True):
    """What was seen.

    Attributes:
        changed: paths whose golden answer is another one now.
        traces: lines of the log with a trace in them.
        stalls: what held the server's loop up, the longest first, where that was looked for.
    """

    tally: Tally
    seen: Seen
    changed: tuple[str, ...]
    traces: tuple[str, ...]
    stalls: tuple[Stall, ...] = ()

    @property
    def growth(self) -> int:
        """Bytes that the server has more than before, after everything has ended."""
        return self.seen.rss_last - self.seen.rss

    def broken(self, *, by_the_clock: bool) -> list[str]:
        """What it has shown to be untrue; what is told by the clock of a machine that others use too, only if asked."""
        health, most = (self.seen.slowest, MOST_HEALTH) if by_the_clock else (self.seen.slowest_own, MOST_OWN)
        claims = {
            f"{self.tally.many_wrong} answers are wrong": not self.tally.wrong,
            f"{len(self.tally.slow)} answers were silent for {HANG:g} s": not (by_the_clock and self.tally.slow),
            f"the server grew by {self.growth / MIB:.1f} MiB": self.growth <= MOST_GROWTH,
            f"/health took {health * 1000:.0f} ms": health < most,
            f"/health failed {self.seen.unwell} times": self.seen.unwell == 0,
            f"golden answers changed: {self.changed}": not self.changed,
            f"traces in the log: {self.traces[:3]}": not self.traces,
        }
        slow = self.tally.slow if by_the_clock else []
        return [what for what, holds in claims.items() if not holds] + self.tally.wrong + slow


def besieged(directory: Path, *, requests: int, seed: int, keyed: bool = False, stalls: bool = False) -> Siege:
    """Starts a server, attacks it, and looks.

    Args:
        directory: an empty one, for all that the server keeps.
        requests: how many.
        seed: of every choice.
        keyed: does everybody need a key? Then one of each scope goes with the requests, and none with some.
        stalls: look for what holds its loop up? That takes some of its time.
    """
    flags, held_up = ("--require-key",) if keyed else (), directory / "stalls"
    program = ("tests.hostile.stalls", str(held_up)) if stalls else ("localmodels",)
    with arena(directory, *flags, program=program) as served:
        port = int(served.url.rpartition(":")[2])
        admin = served.admin_key if keyed else ""
        shown = ("", *(scoped_key(served, admin, scope) for scope in SCOPES)) if keyed else ("",)
        before = golden(served, admin)
        warm(served, admin)
        every = drawn(description(served, admin), port, requests, seed)
        with watching(port, served.pid) as watch:
            tally = asyncio.run(attacked(port, every, keys=shown, strict=not keyed))
            after = golden(served, admin)
        changed = tuple(path for path in before if before[path] != after[path])
    log = (directory / "log").read_text()
    traces = tuple(line for line in log.splitlines() if "Traceback" in line or "unforeseen" in line)
    return Siege(tally, watch.seen, changed, traces, tuple(read(held_up)) if stalls else ())


def warm(served: Served, key: str) -> None:
    """Has it load what it loads but once: the way out to registries and to other servers, the page of metrics."""
    bearer = {"authorization": f"Bearer {key}"} if key else {}
    for path, body in (
        ("/api/pull", {"model": "nobody/nothing"}),
        ("/v1/chat/completions", {"model": "gone/bare", "messages": []}),
    ):
        httpx2.post(served.url + path, json=body, headers=bearer, timeout=PATIENCE)
    served.get("/metrics", headers=bearer)


def scoped_key(served: Served, admin: str, scope: str) -> str:
    """A new key with one scope."""
    body = {"name": f"only-{scope}", "scopes": [scope]}
    answer = httpx2.post(
        f"{served.url}/api/keys", json=body, headers={"authorization": f"Bearer {admin}"}, timeout=PATIENCE
    )
    text: str = answer.raise_for_status().json()["key"]
    return text


def drawn(document: dict[str, Any], port: int, requests: int, seed: int) -> Iterator[Attack]:
    """So many attacks, of all kinds, in an order that the seed decides."""
    draw = random.Random(seed)
    many = {name: round(share * requests) for name, share in SHARES.items()}
    corpora: dict[str, Iterable[Attack]] = {
        "described": described.attacks(document, port, many["described"], draw),
        "bodies": bodies.attacks(document, port, draw),
        "texts": shuffled(headers.attacks(port), draw),
        "keys": shuffled(keys.attacks(port), draw),
        "raw": shuffled(chain(raw(port), hosts.attacks(port)), draw),
    }
    sources = {name: cycle(corpus) if name != "bodies" else iter(corpus) for name, corpus in corpora.items()}
    turns = [name for name, count in many.items() for _ in range(count)]
    draw.shuffle(turns)
    return islice((next(sources[name]) for name in turns), requests)


def shuffled(attacks: Iterable[Attack], draw: random.Random) -> list[Attack]:
    items = list(attacks)
    draw.shuffle(items)
    return items


def raw(port: int) -> Iterator[Attack]:
    """Requests that two parsers could read differently, sent to whom they are for."""
    for case in framing.CASES:
        sent = case.sent.replace(b"Host: a\r\n", b"Host: localhost:%d\r\n" % port)
        wanted = tuple(status for status in case.heard[:1] if isinstance(status, int))
        yield Attack("V-32 framing", case.name, sent, wanted)
