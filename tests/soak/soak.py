"""An hour of everything at once, at a steady rate, and whether anything grew meanwhile (F19).

The rule: requests come whether or not others were answered, and nothing is started anew but what clients and the
configuration start; so whatever rises while the rate does not is kept by somebody who should have let it go.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic

from msgspec import Struct
from tests.soak import questions
from tests.soak.client import Request, connected
from tests.soak.faults import RESTS
from tests.soak.guest import Guest
from tests.soak.samples import Sample, look
from tests.soak.scene import Scene, scene
from tests.soak.tally import Tally
from tests.soak.visits import SHARES, Visit

MIB = 2**20
EVERY = 5.0  # seconds between two samples
RELOADS = 20.0  # seconds between two SIGHUPs
AT_ONCE = 128  # requests of the warming up
SETTLED = 90.0  # seconds in which everything that was left behind has to end


class Soaked(Struct, frozen=True):
    """What was seen.

    Attributes:
        tally: of the requests.
        samples: the first after the warming up of every part and before the load, the last after all of it had ended.
        minutes: of load.
        under_way: answers that had not ended at the server behind, at the end.
        traces: lines of the log with a trace in them.
        late: the longest that a visit began after its time, in seconds: how open the loop was.
    """

    tally: Tally
    samples: tuple[Sample, ...]
    minutes: float
    under_way: int
    traces: tuple[str, ...]
    late: float

    @property
    def steady(self) -> tuple[Sample, ...]:
        """Samples under load, after warm-up: two thirds of the time.

        An hour's warm-up is twenty minutes because glibc keeps up to seven pieces of each size for each thread, a
        quarter of a megabyte, and counts them as used: with ``GLIBC_TUNABLES=glibc.malloc.tcache_count=0`` what it
        calls used is flat after three minutes, without it after twenty.
        """
        begins = 60 * self.minutes / 3
        return tuple(sample for sample in self.samples[1:-1] if sample.at >= begins)


def soaked(
    *, minutes: float, rate: float, seed: int, environ: Mapping[str, str], told: Callable[[str], None] = lambda _: None
) -> Soaked:
    """Starts both servers, and lets clients come.

    Args:
        minutes: of load.
        rate: visits a second.
        seed: of every choice.
        environ: added to the server's environment.
        told: is told each sample, as a line.
    """
    with tempfile.TemporaryDirectory() as directory:
        with scene(Path(directory), environ) as at:
            load = Load(at, Random(seed), told)
            asyncio.run(load.run(60 * minutes, rate))
            under_way = at.behind.under_way()
        traces = tuple(line for line in at.log.read_text().splitlines() if "Traceback" in line or "unforeseen" in line)
    return Soaked(load.guest.tally, tuple(load.samples), minutes, under_way, traces, load.late)


class Load:
    """The clients, and who looks at the server meanwhile."""

    def __init__(self, at: Scene, draw: Random, told: Callable[[str], None]) -> None:
        self._at = at
        self._told = told
        self._visits: set[asyncio.Task[None]] = set()
        self.guest = Guest(at.port, at.keys["admin"], at.keys["worker"], at.keys["limited"], draw)
        self.samples: list[Sample] = []
        self.late = 0.0

    async def run(self, seconds: float, rate: float) -> None:
        """All of it; returns when the last client has gone."""
        await self._warm()
        self.guest.begun = monotonic()
        await self._look()
        beside = [asyncio.create_task(self._sampling()), asyncio.create_task(self._reloading())]
        try:
            await self._coming(seconds, rate)
        finally:
            for task in beside:
                task.cancel()
            for task in beside:
                with suppress(asyncio.CancelledError):
                    await task
        if self._visits:
            await asyncio.wait(self._visits)
        self._at.configure(0)
        self._at.served.signal(signal.SIGHUP)
        await self._settled()
        await self._look()

    async def _warm(self) -> None:
        """Everything once: what is loaded but once, and a series of metrics for whatever can have one."""
        for visit in SHARES:
            await visit(self.guest)
        every = list(questions.every(self.guest.worker))
        for start in range(0, len(every), AT_ONCE):
            some = every[start : start + AT_ONCE]
            # Nearly all are for models that break: then the server rests, too.
            await asyncio.gather(*(self.guest.once("warming up", one.request, one.wanted | RESTS) for one in some))

    async def _coming(self, seconds: float, rate: float) -> None:
        kinds, weights = tuple(SHARES), tuple(SHARES.values())
        for number in range(round(seconds * rate)):
            due = self.guest.begun + number / rate
            await asyncio.sleep(max(0.0, due - monotonic()))
            self.late = max(self.late, monotonic() - due)
            visit = self.guest.draw.choices(kinds, weights)[0]
            task = asyncio.create_task(self._visit(visit))
            self._visits.add(task)
            task.add_done_callback(self._visits.discard)

    async def _visit(self, visit: Visit) -> None:
        try:
            await visit(self.guest)
        except Exception as error:  # noqa: BLE001  # told at the end: one client's end is not the others'
            self.guest.tally.broken.append(f"{visit.__name__}: {error!r}")

    async def _sampling(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self._look()

    async def _reloading(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(RELOADS)
            turn += 1
            self._at.configure(turn)
            self._at.served.signal(signal.SIGHUP)

    async def _look(self) -> None:
        at = self._at
        async with connected(at.port) as connection:
            page = (await connection.ask(Request("GET", "/metrics", key=self.guest.admin))).body
        when, visits = monotonic() - self.guest.begun, len(self._visits)
        sample = await asyncio.to_thread(look, at.served.pid, at.home, at.temporary, at=when, page=page, visits=visits)
        self.samples.append(sample)
        self._told(line(sample))

    async def _settled(self) -> None:
        """Waits until nobody is answered any more at the server behind."""
        until = monotonic() + SETTLED
        while monotonic() < until and await asyncio.to_thread(self._at.behind.under_way) > 0:  # noqa: ASYNC110
            await asyncio.sleep(1.0)  # another process tells it


def line(sample: Sample) -> str:
    """A sample for people."""
    mine, below = sample.memory, sample.runners
    return (
        f"{sample.at:7.0f} s  rss {mine.rss / MIB:.2f}  pss {mine.pss / MIB:.2f}  uss {mine.uss / MIB:.2f} MiB"
        f"  runners {below.pss / MIB:.1f} MiB in {sample.children}  fds {sample.descriptors}  threads {sample.threads}"
        f"  files {sample.files} ({sample.kept / MIB:.2f} MiB) + {sample.temporary}  series {sample.series}"
        f"  visits {sample.visits}"
    )
