"""What all requests to the hosts of the fleet share: their places, how many may be sent once more, and who rests.

One owner: the :class:`~localmodels.flows.connections.remotes.Remotes` of a system. The one rule: a host that has just
failed a request is not asked for that model by choice for a moment, and one that says for how long it is busy is
believed: else every request would come by there first. While nobody else has the model, it is asked all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

from localmodels.core.errors import LocalModelsError, RateLimited, Unavailable
from localmodels.fleet.fleet import Fleet, id_of
from localmodels.fleet.hosts import Host, same_name
from localmodels.fleet.places import Places
from localmodels.flows.connections.failover import Retries, verdict
from localmodels.flows.connections.request_counts import Tally

log = logging.getLogger(__name__)

# Seconds of rest for a host that does not say how long it is busy; and the longest: a word of a minute ago is old.
USUAL_REST, LONGEST_REST = 1.0, 30.0
# So many are looked through for those that have ended: callers make up names, and nobody may ask for them again.
MANY = 1_000

Look = Callable[[str], Awaitable[object]]
"""Asks the host with this id at once what it has; whoever asks at the same time shares one look."""


async def _nowhere(host_id: str) -> None:
    """Nobody watches the hosts."""


class Traffic:
    """What they share.

    Args:
        fleet: knows how the hosts are.
        places: at the hosts.
        retries: how many requests may be sent once more.
        clock: seconds that only ever grow.

    Attributes:
        tally: what requests met, counted.
        look: asks a host what it has; set by whoever watches the hosts.
        aliases: other names for models; set by whoever finds models by name.
    """

    def __init__(
        self, fleet: Fleet, places: Places, retries: Retries | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self.fleet = fleet
        self.places = places
        self.retries = retries or Retries()
        self.tally = Tally(fleet)
        self.look: Look = _nowhere
        self.aliases: Mapping[str, str] = {}
        self._clock = clock
        self._rests: dict[tuple[str, str], float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._closed = False
        fleet.listen(places.look)

    def met(self, host: Host, model: str, error: LocalModelsError) -> None:
        """A host has met a request with this, before it began to answer."""
        if verdict(error) == "refused":
            return
        busy = isinstance(error, (Unavailable, RateLimited)) and error.retry_after is not None
        seconds = min(error.retry_after or 0.0, LONGEST_REST) if busy else USUAL_REST
        if len(self._rests) >= MANY:
            self._forget()
        self._rests[id_of(host.spec), same_name(model)] = self._clock() + seconds

    def rests(self, model: str = "") -> frozenset[tuple[str, str]]:
        """Copies that shall not be asked now, while there are others: ids of hosts, and models.

        These are the ones that have just failed, and those that were given up: whoever decides asks here, and nowhere
        else.

        Args:
            model: this one's; empty for all, where the choice of the model is ours.
        """
        name = same_name(model) if model else ""
        given_up = self.fleet.given_up(name)
        if not self._rests:
            return given_up
        self._forget()
        return given_up.union(one for one in self._rests if not name or one[1] == name)

    def _forget(self) -> None:
        now = self._clock()
        self._rests = {one: until for one, until in self._rests.items() if until > now}

    def missing(self, host: Host) -> None:
        """A host has not what it was asked for, so what it told is old: it is asked anew, beside everything else."""
        host_id = id_of(host.spec)
        if host_id not in self._looking and not self._closed:
            task = self._looking[host_id] = asyncio.create_task(self._look(host_id))
            task.add_done_callback(lambda _: self._looking.pop(host_id, None))

    async def close(self) -> None:
        """Ends the looks under way, and begins none any more."""
        self._closed = True
        for task in self._looking.values():
            task.cancel()
        if self._looking:
            await asyncio.wait(tuple(self._looking.values()))

    async def _look(self, host_id: str) -> None:
        try:
            await self.look(host_id)
        except LocalModelsError as error:
            log.info("the server %s could not be asked for its models: %s", host_id, error)
