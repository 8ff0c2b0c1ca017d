"""Whose turn it is where: what holds whatever comes, in random histories of a small fleet."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from msgspec.structs import replace

from localmodels.core.errors import LocalModelsError, QueueFull, Unavailable
from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import Host
from localmodels.fleet.stands import Waiter
from localmodels.fleet.turns import PASSED, Turns

CALLERS = {"a": 1, "b": 1, "c": 3, "d": 1}
HOSTS = 4
QUEUE = 12


class History:
    """Requests that come, wait, are served and leave, at hosts that come and go and change.

    Attributes:
        overtaken: how often newer requests were served at a host that suited each who waits.
        worst: the most that anybody was overtaken until he was served.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.turns = Turns()
        self.hosts = [Host(spec(number), state="up") for number in range(HOSTS)]
        self.inside: list[tuple[Host, str]] = []
        self.waiting: dict[Waiter, int] = {}
        self.overtaken: Counter[Waiter] = Counter()
        self.worst = 0
        self.asked = self.served = self.refused = self.left = 0

    def step(self) -> None:
        """Something happens; what must hold holds."""
        chance = self.random.random()
        if chance < 0.55:
            self.ask()
        elif chance < 0.94:
            self.give_back()
        elif chance < 0.96:
            self.leave()
        else:
            self.change()
        self.settle()
        self.check()

    def ask(self) -> None:
        random = self.random
        hosts = random.sample(self.hosts, random.randint(1, HOSTS))
        caller = "a" if random.random() < 0.6 else random.choice(list(CALLERS))
        self.asked += 1
        try:
            found = self.turns.ask(hosts, caller, CALLERS[caller], model="m", again=random.random() < 0.02)
        except (QueueFull, Unavailable):
            self.refused += 1
            return
        if isinstance(found, Host):
            self.enter(found, self.asked)
        else:
            assert found.home.waiting <= found.home.spec.max_queue
            self.waiting[found] = self.asked

    def enter(self, host: Host, number: int) -> None:
        """Somebody has got a place, who came at this number."""
        assert host.may_be_asked
        assert host.in_flight <= host.spec.max_concurrent
        self.served += 1
        self.inside.append((host, "m"))
        for waiter, came in self.waiting.items():
            if came < number and host in waiter.hosts:
                self.overtaken[waiter] += 1

    def give_back(self) -> None:
        if self.inside:
            host, model = self.inside.pop(self.random.randrange(len(self.inside)))
            self.turns.give_back(host, model, self.random.choice([None, 1.0, 5.0]))

    def leave(self) -> None:
        if self.waiting:
            waiter = self.random.choice(list(self.waiting))
            self.turns.leave(waiter)
            self.gone(waiter)
            self.left += 1

    def change(self) -> None:
        host = self.random.choice(self.hosts)
        if self.random.random() < 0.5:
            host.state = self.random.choice(["up", "up", "trying", "down"])
        else:
            host.spec = replace(host.spec, max_concurrent=self.random.randint(1, 6))
        self.turns.look(host)

    def settle(self) -> None:
        for verdict in self.turns.settled():
            number = self.waiting[verdict.waiter]
            self.worst = max(self.worst, self.overtaken[verdict.waiter])
            self.gone(verdict.waiter)
            if isinstance(verdict.outcome, Host):
                assert verdict.outcome in verdict.waiter.hosts
                self.enter(verdict.outcome, number)
            else:
                assert isinstance(verdict.outcome, LocalModelsError)
                self.refused += 1

    def gone(self, waiter: Waiter) -> None:
        del self.waiting[waiter]
        self.overtaken.pop(waiter, None)

    def check(self) -> None:
        count = Counter(host.spec.name for host, _ in self.inside)
        for host in self.hosts:
            assert host.in_flight == count[host.spec.name] == host.asked.get("m", 0)
        assert sum(host.waiting for host in self.hosts) == len(self.waiting) == self.turns.waiting
        # Nobody waits while a host that would suit him has a place; one that has to prove itself has only one.
        for waiter in self.waiting:
            assert not any(host.free and host.may_be_asked and host.state != "trying" for host in waiter.hosts)


def spec(number: int) -> ServerSpec:
    return ServerSpec(
        name=f"h{number}", url="http://far:1", kind="ollama", max_concurrent=number % 3 + 1, max_queue=QUEUE
    )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes(seed: int) -> None:
    history = History(seed)
    for _ in range(10_000):
        history.step()
    assert history.served > 2_000
    # His own that are ahead, and a turn of every other caller for each of them, at every host; and those of his own
    # who were better off elsewhere.
    assert history.worst <= (HOSTS * QUEUE * len(CALLERS) * max(CALLERS.values()) + PASSED) * HOSTS
    assert history.worst < history.served / 10


@pytest.mark.parametrize("seed", range(4))
def test_in_the_end_everybody_was_served_or_refused(seed: int) -> None:
    history = History(seed)
    for _ in range(2_000):
        history.step()
    for host in history.hosts:
        host.state = "up"
        history.turns.look(host)
        history.settle()
    while history.inside:
        history.give_back()
        history.settle()
        history.check()
    assert history.asked == history.served + history.refused + history.left
    assert not history.waiting
    assert not history.turns._stands, "no trace of anybody"
    assert not any(host.asked or host.in_flight or host.waiting for host in history.hosts)


def proved() -> tuple[Turns, Host, Host, list[Waiter]]:
    """A host that was down and answers again, where an old request still is; one of two has been called to prove it."""
    turns = Turns()
    host, other = (Host(replace(spec(number), max_concurrent=2 - number), state="up") for number in range(2))
    assert turns.ask([host]) is host
    assert turns.ask([other]) is other
    host.state = "down"
    turns.look(host)
    waiters = [one for one in (turns.ask([host, other], caller) for caller in "ab") if isinstance(one, Waiter)]
    host.state = "trying"
    turns.look(host)
    assert [verdict.outcome for verdict in turns.settled()] == [host]
    return turns, host, other, waiters


def test_an_older_request_that_ends_makes_no_room_for_a_second_one_that_proves_a_host() -> None:
    turns, host, _, waiters = proved()
    turns.give_back(host)
    assert (turns.settled(), host.in_flight) == ([], 1)
    assert not turns.is_open(host)
    turns.give_back(host)  # now it is the one that was to prove it
    (verdict,) = turns.settled()
    assert (verdict.waiter, verdict.outcome) == (waiters[1], host)


def test_who_was_called_and_has_left_lets_another_prove_it() -> None:
    turns, host, _, waiters = proved()
    turns.unused(host)
    (verdict,) = turns.settled()
    assert (verdict.waiter, verdict.outcome, host.in_flight) == (waiters[1], host, 2)


def test_once_it_is_known_which_request_proves_it_the_host_itself_says_so() -> None:
    turns, host, _, _ = proved()
    host.proving = True
    turns.look(host)
    turns.give_back(host)
    assert turns.settled() == []
    host.proving = False  # it has told nothing: another may
    turns.look(host)
    assert [verdict.outcome for verdict in turns.settled()] == [host]
