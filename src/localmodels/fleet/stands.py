"""Who waits at one host, and in what capacity; :mod:`.turns` decides by it.

The rule: a request waits at all of its hosts, fills a place in the line of one, and one is the best to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from localmodels.core.fair import Line
from localmodels.fleet.hosts import Host


class Waiter(Struct, eq=False):
    """A request that waits for any of its hosts.

    Attributes:
        key: its id in the lines.
        number: the larger, the sooner it goes when a line is full and others have less.
        hosts: all that suit, the best first.
        home: the one of them in whose line it stands.
        passed: how often a newer request of its caller was served at one of its hosts.
    """

    key: str
    number: int
    hosts: tuple[Host, ...]
    home: Host
    caller: str
    weight: int
    model: str
    passed: int = 0


class ByCaller:
    """Some who wait, each caller's in order of arrival."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Waiter]] = {}

    def add(self, waiter: Waiter) -> None:
        """One more."""
        self._of.setdefault(waiter.caller, {})[waiter.key] = waiter

    def take(self, waiter: Waiter) -> None:
        """One less."""
        ones = self._of[waiter.caller]
        del ones[waiter.key]
        if not ones:
            del self._of[waiter.caller]

    def of(self, caller: str) -> Iterable[Waiter]:
        """This caller's."""
        return self._of.get(caller, {}).values()

    def counts(self) -> dict[str, int]:
        """How many each caller has."""
        return {caller: len(ones) for caller, ones in self._of.items()}


class Stand(Struct):
    """One host's line, as long as somebody is at the host or waits for it.

    Attributes:
        line: all whom this host suits.
        standing: those who fill its bound.
        best: those to whom it is the best.
    """

    line: Line[Waiter] = field(default_factory=Line)
    standing: ByCaller = field(default_factory=ByCaller)
    best: ByCaller = field(default_factory=ByCaller)
