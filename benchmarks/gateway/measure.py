"""The figures of the gateway, and the rounds that they come from.

Processor time is what a side's own processes took, as the kernel counts it, so a busy machine moves it little; what is
said by the clock (streams, added time) is only worth something on a quiet one. A side that is not here makes its
figures "not measured", with the reason.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks.gateway import sides
from benchmarks.gateway.cpu import Cores, share_out, spent
from benchmarks.gateway.load import Job, Result
from benchmarks.gateway.sides import Absent, Side
from benchmarks.report import Figure

ROUNDS = 7
SECONDS = 2.0  # of one side in one round: two hundred times what the kernel can tell apart
MANY = 16  # connections that ask at once where throughput counts
PIECES = 100
# About as long as a short question of a chat.
TEXT = "What is the capital of France, and since when? " * 8
# A line of results holds every latency.
LONGEST_LINE = 1 << 26

Opener = Callable[[frozenset[int], Side], AbstractAsyncContextManager[Side]]
OPENERS: Mapping[str, Opener] = {
    "ours": sides.keyed,
    "relay": sides.relay,
    "nginx": sides.nginx,
    "litellm": sides.litellm,
}


@dataclass(frozen=True)
class Taken:
    """What one side did in one round: what came, and the processor time that its processes took."""

    result: Result
    cpu: float

    @property
    def rate(self) -> float:
        """Requests a second, by the clock."""
        return self.result.requests / self.result.seconds

    @property
    def each(self) -> float:
        """Seconds of processor time a request."""
        return self.cpu / self.result.requests

    @property
    def busy(self) -> float:
        """Its share of a core."""
        return self.cpu / self.result.seconds

    def latency(self, share: float) -> float:
        """Seconds that this share of the requests did not exceed."""
        return self.result.latencies[min(len(self.result.latencies) - 1, int(share * len(self.result.latencies)))]


class Load:
    """The process that asks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, side: Side, *, connections: int, seconds: float, pieces: int = 0) -> Taken:
        """Asks a side for so long.

        Raises:
            RuntimeError: one of its answers was wrong.
        """
        body: dict[str, object] = {"model": side.model, "messages": [{"role": "user", "content": TEXT}]}
        text = json.dumps({**body, "stream": True} if pieces else body)
        job = Job(side.port, side.path, text, connections, seconds, pieces, side.headers)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        before = spent(side.pid)
        stdin.write(msgspec.json.encode(job) + b"\n")
        result = msgspec.json.decode(await stdout.readline(), type=Result)
        if result.error:
            raise RuntimeError(f"{side.name}: {result.error}")
        return Taken(result, spent(side.pid) - before)


@asynccontextmanager
async def load(cores: frozenset[int]) -> AsyncIterator[Load]:
    """The load, in a process of its own."""
    pipe = asyncio.subprocess.PIPE
    words = (sys.executable, "-m", "benchmarks.gateway.load")
    async with sides.child(cores, *words, stdin=pipe, stdout=pipe, limit=LONGEST_LINE) as process:
        yield Load(process)


class Bench:
    """Everybody started, beside the same back end.

    Attributes:
        sides: those who are here, by name.
        absent: why the others are not.
    """

    def __init__(self, mock: Side, load: Load, cores: Cores) -> None:
        self.mock = mock
        self.load = load
        self.cores = cores
        self.sides: dict[str, Side] = {}
        self.absent: dict[str, str] = {}

    async def rounds(self, names: Sequence[str], *, connections: int, pieces: int = 0) -> dict[str, list[Taken]]:
        """What each did in each round, the first of which is not counted. ``mock`` is the back end, asked directly."""
        here = {"mock": self.mock, **self.sides}
        asked = [name for name in names if name in here]
        taken: dict[str, list[Taken]] = {name: [] for name in asked}
        for number in range(ROUNDS + 1):
            for name in asked if number % 2 else reversed(asked):
                one = await self.load.ask(here[name], connections=connections, seconds=SECONDS, pieces=pieces)
                if number:
                    taken[name].append(one)
        return taken

    def missing(self, name: str, unit: str, bar: str, needs: Sequence[str]) -> Figure | None:
        """The figure that cannot be had, where one of those it needs is not here."""
        reasons = [self.absent[side] for side in needs if side in self.absent]
        return Figure(name, None, unit, bar, None, "; ".join(reasons)) if reasons else None


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Starts them all; whoever cannot be started is absent, for a reason that is printed."""
    cores = share_out()
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(sides.mock(cores.others, pieces=PIECES))
        made = Bench(upstream, await opened.enter_async_context(load(cores.others)), cores)
        for name, opener in OPENERS.items():
            try:
                made.sides[name] = await opened.enter_async_context(opener(cores.measured, upstream))
            except Absent as absent:
                print(f"{name} is not measured: {absent}", file=sys.stderr)
                made.absent[name] = str(absent)
        yield made


async def figures() -> list[Figure]:
    """All of them."""
    async with bench() as made:
        whole = await made.rounds(("ours", "relay", "nginx", "litellm"), connections=MANY)
        light = await made.rounds(("mock", "ours", "relay", "nginx", "litellm"), connections=1)
        streams = await made.rounds(("ours", "relay", "nginx", "litellm"), connections=MANY, pieces=PIECES)
        alone = "" if made.cores.apart else "one core for all"
        return [
            made.missing("requests/s of a core, ours : LiteLLM", "", "≥ 30", ("ours", "litellm"))
            or per_core("requests/s of a core, ours : LiteLLM", whole, "litellm", bar=30, note=alone),
            made.missing("CPU a request, ours : bare relay", "", "≤ 1.3", ("ours",))
            or cpu_ratio("CPU a request, ours : bare relay", whole, "relay", bar=1.3),
            made.missing("added time, light load, median", "ms", "≤ 0.5", ("ours",))
            or added("added time, light load, median", light, 0.5, bar=0.5),
            made.missing("added time, light load, 99 of 100", "ms", "none", ("ours",))
            or added("added time, light load, 99 of 100", light, 0.99, bar=None),
            made.missing("streams, pieces/s, ours : nginx", "", "≥ 0.7", ("ours", "nginx"))
            or by_the_clock("streams, pieces/s, ours : nginx", streams, bar=0.7),
            made.missing("whole answers/s, ours : nginx", "", "none", ("ours", "nginx"))
            or by_the_clock("whole answers/s, ours : nginx", whole, bar=None),
            made.missing("streams, pieces/s, ours : LiteLLM", "", "none", ("ours", "litellm"))
            or by_the_clock("streams, pieces/s, ours : LiteLLM", streams, "litellm", bar=None),
        ]


def per_core(name: str, taken: Mapping[str, list[Taken]], other: str, *, bar: float, note: str) -> Figure:
    """Requests for a second of processor time, over another's."""
    ratios = [theirs.each / ours.each for ours, theirs in zip(taken["ours"], taken[other], strict=True)]
    value = median(ratios)
    rates = f"{1 / _each(taken['ours']):.0f} : {1 / _each(taken[other]):.0f}"
    return Figure(name, value, "", f"≥ {bar:g}", value >= bar, _joined(_spread(ratios), rates, note))


def cpu_ratio(name: str, taken: Mapping[str, list[Taken]], other: str, *, bar: float) -> Figure:
    """Processor time of a request, over another's."""
    ratios = [ours.each / theirs.each for ours, theirs in zip(taken["ours"], taken[other], strict=True)]
    value = median(ratios)
    times = f"{1e6 * _each(taken['ours']):.0f} : {1e6 * _each(taken[other]):.0f} µs"
    return Figure(name, value, "", f"≤ {bar:g}", value <= bar, _joined(_spread(ratios), times))


def added(name: str, taken: Mapping[str, list[Taken]], share: float, *, bar: float | None) -> Figure:
    """Milliseconds that this share of the requests takes longer than at the back end itself."""
    more = {
        side: median(
            1e3 * (one.latency(share) - bare.latency(share)) for one, bare in zip(ones, taken["mock"], strict=True)
        )
        for side, ones in taken.items()
        if side != "mock"
    }
    others = ", ".join(f"{side} {value:.2f}" for side, value in more.items() if side != "ours")
    value = more["ours"]
    return Figure(name, value, "ms", "none" if bar is None else f"≤ {bar:g}", bar is None or value <= bar, others)


def by_the_clock(name: str, taken: Mapping[str, list[Taken]], other: str = "nginx", *, bar: float | None) -> Figure:
    """How much came through in the same time, over another.

    The load shares its core with the back end, and both together may be what keeps nginx from more: then the ratio is
    too good. How busy each was is said beside it.
    """
    ratios = [ours.rate / theirs.rate for ours, theirs in zip(taken["ours"], taken[other], strict=True)]
    value = median(ratios)
    cores = ", ".join(f"{side} {median(one.busy for one in taken[side]):.0%} of its core" for side in ("ours", other))
    each = _each(taken["ours"]) / _each(taken[other])
    note = _joined(_spread(ratios), cores, f"CPU of each {each:.2f} : 1")
    return Figure(name, value, "", "none" if bar is None else f"≥ {bar:g}", bar is None or value >= bar, note)


def _each(taken: Sequence[Taken]) -> float:
    return median(one.each for one in taken)


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def _joined(*notes: str) -> str:
    return ", ".join(note for note in notes if note)
