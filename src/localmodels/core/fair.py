"""Who is next where several callers wait for the same places: start-time fair queueing (Goyal, Vin, Cheng, 1996).

The rule: a place goes to the caller who has had least of them for his weight, however many requests he has waiting;
within a caller, first come first served. Nobody saves up turns by staying away, and nobody loses any by leaving.

The time here is virtual: it moves on when somebody is served and stands still otherwise. A caller's turn is the moment
at which his next request begins; being served puts it off by a share, which is the smaller the larger his weight.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lcm
from typing import Generic, TypeVar

from msgspec import Struct, field

T = TypeVar("T")

# What one request costs a caller of weight 1. Every weight up to 100 divides it, so turns are exact whole numbers:
# rounded ones would differ in the last place where they should be equal, and serve somebody twice.
SHARE = lcm(*range(1, 101))


class Place(Struct, Generic[T]):
    """Somebody in the line. ``number`` says when he joined."""

    item: T
    caller: str
    number: int


class Account(Struct, Generic[T]):
    """One caller in one line.

    Attributes:
        turn: when his next request begins, in virtual time.
        served: number of the event by which he was served last.
        waiting: his requests in order of arrival, by id.
    """

    turn: int
    served: int = 0
    weight: int = 1
    waiting: dict[str, Place[T]] = field(default_factory=dict)


class Line(Generic[T]):
    """Those who wait, each under an id that is used once while he waits. Not for several threads."""

    def __init__(self) -> None:
        self._now = 0
        self._events = 0
        self._places: dict[str, Place[T]] = {}
        self._accounts: dict[str, Account[T]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def values(self) -> list[T]:
        """All who wait, in order of arrival; a copy."""
        return [place.item for place in self._places.values()]

    def join(self, key: str, item: T, caller: str = "", weight: int = 1, *, first: bool = False) -> None:
        """Queues up behind the caller's other requests, or before them.

        Args:
            key: the id.
            item: what is found again under it.
            caller: whose it is.
            weight: his share beside others', at least 1; the latest word counts for all his requests.
            first: before his others; other callers lose nothing by it.
        """
        account = self._account(caller, weight)
        place = self._places[key] = Place(item, caller, self._event())
        if first:
            account.waiting = {key: place, **account.waiting}
        else:
            account.waiting[key] = place

    def leave(self, key: str) -> T:
        """Takes one out of the line, whatever for. Who leaves without being served has lost nothing.

        Raises:
            KeyError: nobody waits under this id.
        """
        place = self._places.pop(key)
        account = self._accounts[place.caller]
        del account.waiting[key]
        if not account.waiting and account.turn <= self._now:
            del self._accounts[place.caller]
        return place.item

    def served(self, caller: str, weight: int = 1) -> None:
        """One request of this caller is served now, whether it left the line for that or never had to wait.

        It begins at his turn, or now where that has passed while nobody could serve him; his next one a share later.
        """
        account = self._account(caller, weight)
        self._now = max(self._now, account.turn)
        account.turn = self._now + SHARE // account.weight
        account.served = self._event()
        # Who has nobody waiting and whose turn has come is as good as new.
        for who in [who for who, one in self._accounts.items() if not one.waiting and one.turn <= self._now]:
            del self._accounts[who]

    def first(self, fits: Callable[[T], bool] = lambda item: True) -> T | None:
        """Whose turn it is, of those who fit; None when nobody does. He stays in the line until he leaves it.

        Of callers with the same turn, the one whose request has been his next for longest.
        """
        best: tuple[int, int] | None = None
        chosen = None
        for account in self._accounts.values():
            place = next((place for place in account.waiting.values() if fits(place.item)), None)
            if place is None:
                continue
            rank = account.turn, max(account.served, place.number)
            if best is None or rank < best:
                best, chosen = rank, place.item
        return chosen

    def surplus(self, caller: str) -> T | None:
        """Who goes so that a request of this caller may come into a full line: the newest of whoever has most there.

        None when the caller would have as many himself: then it is his own request that goes. So a flood fills the line
        only until others come, and two floods do not push each other out in turns.
        """
        mine = self._accounts.get(caller)
        nobody: dict[str, Place[T]] = {}
        most = max((account.waiting for account in self._accounts.values()), key=len, default=nobody)
        if len(most) <= (len(mine.waiting) if mine else 0) + 1:
            return None
        return most[next(reversed(most))].item

    def ahead(self, caller: str, weight: int = 1) -> int:
        """How many of those who wait are served before a request of this caller that would join now."""
        mine = self._accounts.get(caller)
        own = len(mine.waiting) if mine else 0
        turn = (max(mine.turn, self._now) if mine else self._now) + own * (SHARE // max(1, weight))
        others = (account for account in self._accounts.values() if account is not mine and account.turn <= turn)
        return own + sum(
            min(len(account.waiting), (turn - max(account.turn, self._now)) * account.weight // SHARE + 1)
            for account in others
        )

    def _account(self, caller: str, weight: int) -> Account[T]:
        account = self._accounts.get(caller)
        if account is None:
            account = self._accounts[caller] = Account(self._now)
        account.weight = max(1, weight)
        return account

    def _event(self) -> int:
        self._events += 1
        return self._events
