"""Places at the hosts of the fleet: how many requests each gets at once, and who is next when all are taken.

The one rule: a place that was given comes back, whatever became of the request. Who gets which place is decided in
:mod:`.turns`; here requests wait for it. Nobody waits longer than his patience.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

from localmodels.fleet.hosts import Host
from localmodels.fleet.stands import Waiter
from localmodels.fleet.turns import Turns


class Places:
    """The places of all hosts.

    Args:
        patience: seconds that one may wait, from now on; who waits already goes by what it was.
        max_wait: seconds; who would, as things go, wait longer is refused at once.
    """

    def __init__(self, *, patience: float = 600.0, max_wait: float = inf) -> None:
        self.patience = patience
        self.max_wait = max_wait
        self._turns = Turns()
        self._calls: dict[Waiter, asyncio.Future[Host]] = {}

    @property
    def waiting(self) -> int:
        """Requests that wait, wherever."""
        return self._turns.waiting

    def is_open(self, host: Host) -> bool:
        """Has it a place now?"""
        return self._turns.is_open(host)

    async def get(
        self,
        hosts: Sequence[Host],
        caller: str = "",
        weight: int = 1,
        *,
        model: str = "",
        again: bool = False,
        patience: float = inf,
    ) -> Host:
        """A place at one of these hosts; whoever gets it gives it back, whatever becomes of him (:meth:`give_back`).

        It is at the first in this order that has one. If none has, the request waits for all of them at once, and gets
        the first that becomes free for it.

        Args:
            hosts: all that suit, the best first; at least one. Those that are down are passed over.
            caller: whose request it is; the line is fair among callers.
            weight: his share beside others'.
            model: what is asked, as ``same_name`` spells it, so that routing knows that it is there now.
            again: has this request had a place that was of no use? Then it goes before its caller's others.
            patience: seconds that this one may wait, where that is less than what anybody may.

        Raises:
            QueueFull: too many wait already, it would take too long, or it did; ``retry_after`` says when to come back.
            Unavailable: none of these hosts answers, or none does any more.
        """
        try:
            found = self._turns.ask(hosts, caller, weight, model=model, max_wait=self.max_wait, again=again)
        finally:
            self._tell()
        return await self._called(found, min(patience, self.patience)) if isinstance(found, Waiter) else found

    def give_back(self, host: Host, model: str = "", seconds: float | None = None) -> None:
        """A place is free again, after so many seconds; None where the request did not end well."""
        self._turns.give_back(host, model, seconds)
        self._tell()

    def look(self, host: Host) -> None:
        """To be called after this host came up or went down, or a limit of it was changed.

        Gives its free places to those who wait, and refuses those all of whose hosts are down.
        """
        self._turns.look(host)
        self._tell()

    async def _called(self, waiter: Waiter, patience: float) -> Host:
        """The host at which he has a place when his turn has come."""
        call: asyncio.Future[Host] = asyncio.get_running_loop().create_future()
        self._calls[waiter] = call
        try:
            async with asyncio.timeout(patience):
                return await call
        except BaseException as error:
            self._turns.leave(waiter)
            if call.done() and not call.cancelled() and call.exception() is None:
                self._turns.unused(call.result(), waiter.model)  # his turn came in the very moment in which he left
                self._tell()
            if isinstance(error, TimeoutError):
                raise self._turns.full(waiter.hosts, f"for {round(patience, 2):g} s there was no place") from None
            raise
        finally:
            del self._calls[waiter]

    def _tell(self) -> None:
        """Calls those whose turn has come, and refuses whom the line has no room for."""
        while settled := self._turns.settled():
            for verdict in settled:
                call, outcome = self._calls[verdict.waiter], verdict.outcome
                if isinstance(outcome, Host):
                    if call.done():  # he has left, and has had no chance to say so yet
                        self._turns.unused(outcome, verdict.waiter.model)
                    else:
                        call.set_result(outcome)
                elif not call.done():
                    call.set_exception(outcome)
