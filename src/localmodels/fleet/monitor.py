"""Asks every host how it is, again and again, each in its own time: the only one that does.

One task a host, which asks it, tells the fleet what came of it, and waits. The rules: a host is asked one thing at a
time and never for longer than its deadline, and nobody waits for a host but those who ask for that very one. So a
damaged server delays its own row, and nothing else. And our own engine is asked again and again only where it is one of
many: alone it waits until somebody wants to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from random import Random
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from localmodels.core import via
from localmodels.core.errors import BackendTimeout, LocalModelsError, NotFound, unforeseen
from localmodels.core.fleet import LOCAL
from localmodels.dialects.told import Told
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.pace import DAY, Mood, Pace, Wait

log = logging.getLogger(__name__)

# Seconds for which a good look is as good as a new one: to whoever wants a list, and to whoever doubts.
RECENT = 1.0

Sleep = Callable[[float], Awaitable[object]]


class Probe(Protocol):
    """Asks one host how it is: another server (:class:`~localmodels.backends.far.Far`), or our own engine."""

    async def look(self) -> Told:
        """What it tells of itself. Costs nothing there, is never asked for twice at a time, and may be cut off.

        Raises:
            LocalModelsError: it does not tell.
        """
        ...


Probes = Callable[[Host], Probe | None]
"""What asks a host; None where nothing can (yet)."""


def _anybody(host: Host) -> bool:
    """Every host is meant."""
    return True


class Monitor:
    """Looks at the hosts of a fleet for as long as it is entered: ``async with Monitor(fleet, probes): …``.

    Args:
        fleet: is told what comes of it.
        probes: what asks a host.
        pace: how often.
        clock: seconds that only ever grow; the fleet's.
        sleep: waits so many of them.
        random: of the waits.
    """

    def __init__(
        self,
        fleet: Fleet,
        probes: Probes,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = monotonic,
        sleep: Sleep = asyncio.sleep,
        random: Random | None = None,
    ) -> None:
        self.fleet = fleet
        self.probes = probes
        self.pace = pace or Pace()
        self.clock = clock
        self.sleep = sleep
        self.random = random or Random()  # noqa: S311  # nothing secret
        self._watches: dict[Host, Watch] = {}
        self._left: set[asyncio.Task[None]] = set()
        self._deaf: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._deaf = self.fleet.listen(self._hear)
        for host in self.fleet.hosts():
            self._hear(host)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._deaf is not None:
            self._deaf()
        for watch in self._watches.values():
            self._leave(watch)
        self._watches.clear()
        if self._left:
            await asyncio.wait(self._left)

    async def look(self, id: str) -> Host:  # noqa: A002
        """The host of this id as it is now: asked after this was called, once for all who call meanwhile.

        A host that does not answer is no error: its ``state`` and ``failure`` say so.

        Raises:
            NotFound: there is none.
        """
        host = self.fleet.host(id)
        watch = self._watches.get(host) if host else None
        if host is None or watch is None:
            raise NotFound(f"there is no server {id[:80]!r}", param="server")
        await asyncio.wait((watch.asked_anew(),))
        return host

    async def looked(
        self, patience: float = 2.0, *, age: float = RECENT, among: Callable[[Host], bool] = _anybody
    ) -> frozenset[Host]:
        """Looks at hosts that may be asked, and tells which of them answer.

        Args:
            patience: seconds; who has not answered by then is not among them.
            age: seconds; who was seen well within these, and has brought nothing into memory since, is not asked again.
            among: which hosts are meant.
        """
        watches = [watch for host, watch in self._watches.items() if host.spec.is_active and among(host)]
        asked = {watch: looking for watch in watches if (looking := watch.asked(age)) is not None}
        if asked:
            bell = asyncio.ensure_future(self.sleep(patience))
            everybody = asyncio.ensure_future(asyncio.wait(asked.values()))
            try:
                await asyncio.wait((bell, everybody), return_when=asyncio.FIRST_COMPLETED)
            finally:
                bell.cancel()
                everybody.cancel()
        return frozenset(watch.host for watch in watches if watch.good and (watch not in asked or asked[watch].done()))

    def _hear(self, host: Host) -> None:
        """Something of this host is not as it was."""
        watch = self._watches.get(host)
        if self.fleet.host(host.id) is not host:
            if watch is not None:
                self._leave(self._watches.pop(host))
        elif watch is None:
            self._watches[host] = Watch(self, host)
            own = self.fleet.named(LOCAL)
            if own is not None and own in self._watches:
                self._watches[own].wake()  # it may be alone no longer
        else:
            watch.hear()

    def _leave(self, watch: Watch) -> None:
        task = watch.task
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        task.cancel()


class Watch:
    """The looks at one host.

    Attributes:
        host: which.
        good: did the last look find it well?
        task: looks, until it is cancelled.
    """

    def __init__(self, monitor: Monitor, host: Host) -> None:
        self.host = host
        self.good = False
        self._monitor = monitor
        self._spec = host.spec
        self._more = False
        self._doubted = False
        self._doubted_at = -DAY  # when a request failed after all was well
        self._feared = -DAY  # when a look was due last because of that
        self._at = -DAY  # when the last look ended
        self._due = -DAY  # when one is due, however often it is looked at else
        self._hinted = -DAY  # when one was due last because of what was brought into memory
        self._wait: Wait | None = None
        self._sleeping: asyncio.Future[object] | None = None
        self._looking: asyncio.Future[None] | None = None
        self._following: asyncio.Future[None] | None = None
        self.task = asyncio.create_task(self._watch())
        self.task.add_done_callback(self._settle)  # nothing within it runs where it is cancelled before it has begun

    def asked_anew(self) -> asyncio.Future[None]:
        """Done after a look that begins from now on."""
        if self._following is None:
            self._following = asyncio.get_running_loop().create_future()
            self.wake()
        return self._following

    def asked(self, age: float) -> asyncio.Future[None] | None:
        """Done after a look that is under way, or begins now; None where the last is good and not so old.

        A request that has failed since makes it old, and so does whoever has asked for one anew: he knows why.
        """
        if self._following is not None or self._monitor.fleet.is_behind(self.host):
            return self.asked_anew()
        if self._looking is not None:
            return self._looking
        good = self.good and self._at > self._doubted_at
        return None if good and self._monitor.clock() - self._at < age else self.asked_anew()

    def hear(self) -> None:
        """Something of the host is not as it was.

        New settings and the first failure of a request are looked into at once, and so is what a request has brought
        into memory, if the like was not looked into a moment ago. A host that is down has its own pace, however often
        requests find it so.
        """
        fleet = self._monitor.fleet
        doubted, self._doubted = self._doubted, fleet.is_doubted(self.host)
        spec, self._spec = self._spec, self.host.spec
        if spec is not self._spec:
            self._due = min(self._due, self._at + RECENT)
            self.wake()
        elif self._doubted and not doubted:
            self._doubted_at = self._monitor.clock()
            if self._feared <= self._doubted_at:
                self._feared = max(self._doubted_at, self._feared + RECENT)
            self._due = min(self._due, self._feared)
            self.wake()
        elif fleet.is_behind(self.host) and self._due == inf:
            self._due = self._hinted = max(self._monitor.clock(), self._hinted + self._monitor.pace.busy)
            self.wake()
        elif self._wait is not None and self._wait.mood != self._mood():
            self._wait = self._waiting()
            self.wake()

    def wake(self) -> None:
        """Looks at its time anew; something may have made it another."""
        if self._sleeping is not None:
            self._sleeping.cancel()

    async def _watch(self) -> None:
        via.on_own()
        while True:
            await self._until_due()
            self._looking = self._following or asyncio.get_running_loop().create_future()
            self._following, self._due = None, inf
            try:
                await self._look()
            except Exception:  # one defect must not end all looks at a host
                log.exception("the look at the server '%s' failed", self.host.spec.name)
                self._failed(unforeseen(), self._monitor.clock())
            self._at = self._monitor.clock()
            self._wait = self._waiting()
            self._looking.set_result(None)
            self._looking = None

    def _settle(self, task: asyncio.Task[None]) -> None:
        """Nobody looks any more: whoever waits for that has waited long enough."""
        for waited in (self._looking, self._following):
            if waited is not None and not waited.done():
                waited.set_result(None)

    async def _until_due(self) -> None:
        """Waits until it is time for a look: one that was asked for is due at once."""
        while self._following is None:
            if (seconds := self._seconds()) <= 0:
                return
            self._sleeping = asyncio.ensure_future(self._monitor.sleep(seconds))
            try:
                await asyncio.wait((self._sleeping,))
                slept = not self._sleeping.cancelled()
            finally:
                self._sleeping.cancel()
                self._sleeping = None
            if slept and self._is_paced():
                return

    def _seconds(self) -> float:
        """Until the next look, as things are."""
        if not self._is_paced():
            return DAY
        due = self._due - self._monitor.clock()
        if self._wait is None:
            return due
        return min(due, self._monitor.pace.shortened(self._wait, self._monitor.random))

    def _is_paced(self) -> bool:
        """Is it looked at though nobody asks? Who is switched off is not, nor is our own engine without others."""
        return self.host.spec.is_active and (not self.host.is_own or self._monitor.fleet.shared)

    def _waiting(self) -> Wait:
        """For the next look, as it goes after the last one."""
        return self._monitor.pace.after(self._wait, self._mood(), len(self._monitor.fleet.hosts()))

    def _mood(self) -> Mood:
        host = self.host
        if host.state in {"down", "trying"}:
            return "down"
        # Who does not tell what is in memory tells nothing that requests change, and our own engine tells it unasked.
        tells = not host.is_own and host.sight is not None and host.sight.loaded is not None
        return "busy" if host.in_flight and tells else "idle"

    async def _look(self) -> None:
        probe = self._monitor.probes(self.host)
        if probe is None:
            self.good = False
            return
        began = self._monitor.clock()
        try:
            told = await self._in_time(probe)
        except LocalModelsError as error:
            self._failed(error, began)
        else:
            self.good = True
            self._monitor.fleet.saw(self.host, told, began)
            more, self._more = self._more, told.more
            if told.more and not more:
                log.warning(
                    "the server '%s' lists more models than are looked at: beyond the first %d none is known of",
                    self.host.spec.name,
                    len(told.models),
                )

    def _failed(self, error: LocalModelsError, since: float) -> None:
        self.good = False
        self._monitor.fleet.failed(self.host, error, since)

    async def _in_time(self, probe: Probe) -> Told:
        """What it tells.

        Raises:
            BackendTimeout: it did not within its deadline.
            LocalModelsError: it does not.
        """
        deadline = self._monitor.pace.deadline
        asking = asyncio.ensure_future(probe.look())
        bell = asyncio.ensure_future(self._monitor.sleep(deadline))
        try:
            await asyncio.wait((asking, bell), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise BackendTimeout(f"the server did not say within {deadline:g} s how it is")
            return asking.result()
        finally:
            bell.cancel()
            if not asking.done():
                asking.cancel()
                await asyncio.wait((asking,))
            if not asking.cancelled():
                asking.exception()  # who waited for it may have left in this very turn of the loop
