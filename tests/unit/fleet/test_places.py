"""Places at the hosts of a fleet: bounded, fair, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

import pytest
from msgspec.structs import replace
from tests.awaited import awaited

from localmodels.core.errors import QueueFull, Unavailable
from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import Host
from localmodels.fleet.places import Places


class Visitors:
    """Visitors of hosts, who stay until they are told to go."""

    def __init__(self, *hosts: Host, patience: float = 600.0, max_wait: float = inf) -> None:
        self.now = 0.0  # goes on when it is told to
        self.hosts = hosts
        self.places = Places(patience=patience, max_wait=max_wait)
        self.inside: list[str] = []
        self.at: dict[str, str] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(
        self, name: str, caller: str = "", hosts: Sequence[Host] = (), *, again: bool = False
    ) -> asyncio.Task[None]:
        gate = self._gates[name] = asyncio.Event()

        async def visit() -> None:
            host = await self.places.get(hosts or self.hosts, caller or name, again=again)
            begun, took = self.now, None
            try:
                self.inside.append(name)
                self.at[name] = host.spec.name
                await gate.wait()
                took = self.now - begun
            finally:
                self.places.give_back(host, seconds=took)

        task = self._tasks[name] = asyncio.ensure_future(visit())
        await turns()
        return task

    async def go(self, name: str) -> None:
        self._gates[name].set()
        await asyncio.wait([self._tasks[name]])
        await turns()

    async def leave(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
        await turns()

    async def look(self, one: Host) -> None:
        self.places.look(one)
        await turns()

    async def served(self, seconds: float) -> None:
        """Somebody has a place for so long."""
        await self.come("first")
        self.now += seconds
        await self.go("first")

    @property
    def busy(self) -> int:
        return sum(host.in_flight for host in self.hosts)

    @property
    def waiting(self) -> int:
        return sum(host.waiting for host in self.hosts)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def host(name: str = "far", most: int = 0, most_waiting: int = 64) -> Host:
    spec = ServerSpec(name=name, url="http://far:1", kind="ollama", max_concurrent=most, max_queue=most_waiting)
    return Host(spec, state="up")


def limit(one: Host, most: int) -> None:
    one.spec = replace(one.spec, max_concurrent=most)


@awaited
async def test_without_a_limit_nobody_waits() -> None:
    visitors = Visitors(host())
    for number in range(100):
        await visitors.come(str(number))
    assert visitors.busy == len(visitors.inside) == 100
    for number in range(100):
        await visitors.go(str(number))
    assert visitors.busy == 0


@awaited
async def test_first_come_first_served_among_equals() -> None:
    visitors = Visitors(host("far", 1, 10))
    for name in "abc":
        await visitors.come(name)
    assert (visitors.inside, visitors.waiting) == (["a"], 2)
    await visitors.go("a")
    await visitors.go("b")
    assert visitors.inside == ["a", "b", "c"]
    await visitors.go("c")
    assert (visitors.busy, visitors.waiting) == (0, 0)


@awaited
async def test_a_flood_of_one_does_not_hold_up_another() -> None:
    visitors = Visitors(host("far", 1, 10))
    for number in range(5):
        await visitors.come(f"flood{number}", "flood")
    await visitors.come("guest", "guest")
    await visitors.go("flood0")
    assert visitors.inside[1] == "guest"


@awaited
async def test_a_full_line_refuses_and_says_when_to_come_back() -> None:
    visitors = Visitors(host("far", 1, 1))
    await visitors.come("a", "x")
    await visitors.come("b", "x")
    refused = await visitors.come("c", "x")
    with pytest.raises(QueueFull, match="the server 'far' is busy: 1 requests wait already") as caught:
        await refused
    assert caught.value.retry_after
    assert (visitors.busy, visitors.waiting) == (1, 1)


@awaited
async def test_in_a_full_line_who_has_most_makes_room_for_who_has_none() -> None:
    visitors = Visitors(host("far", 1, 2))
    await visitors.come("a", "flood")
    await visitors.come("b", "flood")
    newest = await visitors.come("c", "flood")
    await visitors.come("d", "guest")
    with pytest.raises(QueueFull, match="others who had fewer requests here came"):
        await newest
    assert visitors.waiting == 2


@awaited
async def test_who_leaves_the_line_takes_no_place_with_him() -> None:
    visitors = Visitors(host("far", 1, 10))
    for name in "abc":
        await visitors.come(name)
    await visitors.leave("b")
    await visitors.go("a")
    assert visitors.inside == ["a", "c"]
    await visitors.go("c")
    assert visitors.busy == 0


@awaited
async def test_who_is_cancelled_in_the_moment_his_turn_comes_gives_it_on() -> None:
    visitors = Visitors(host("far", 1, 10))
    await visitors.come("a")
    late = await visitors.come("b")
    await visitors.come("c")
    visitors._gates["a"].set()
    await asyncio.sleep(0)  # a leaves and the place is given to b, who has not run yet
    late.cancel()
    await turns()
    assert late.cancelled()
    assert visitors.inside == ["a", "c"]
    await visitors.go("c")
    assert visitors.busy == 0


@awaited
async def test_a_place_given_to_one_who_was_cancelled_before_goes_on_to_the_next() -> None:
    visitors = Visitors(host("far", 1, 10))
    await visitors.come("a")
    late = await visitors.come("b")
    await visitors.come("c")
    late.cancel()
    visitors._gates["a"].set()
    await turns()  # a leaves before b, who is in the line still, has run
    assert late.cancelled()
    assert visitors.inside == ["a", "c"]
    await visitors.go("c")
    assert (visitors.busy, visitors.waiting) == (0, 0)


@awaited
async def test_nobody_waits_longer_than_his_patience() -> None:
    visitors = Visitors(host("far", 1, 10), patience=0.01)
    await visitors.come("a")
    late = await visitors.come("b")
    with pytest.raises(QueueFull, match=r"0\.01 s"):
        await late
    await visitors.go("a")
    assert (visitors.busy, visitors.waiting) == (0, 0)


@awaited
async def test_who_would_wait_longer_than_was_promised_is_refused_at_once() -> None:
    visitors = Visitors(host("far", 2, 10), max_wait=5.0)
    await visitors.served(4.0)
    for name in ("a", "b", "c", "d"):  # c waits for about 2 s, d for 4
        await visitors.come(name, "flood")
    refused = await visitors.come("e", "flood")
    with pytest.raises(QueueFull, match=r"about 6\.0 s, and the longest that is promised is 5 s") as caught:
        await refused
    assert caught.value.retry_after == 1.0
    assert (visitors.busy, visitors.waiting) == (2, 2)


@awaited
async def test_it_is_who_asks_that_counts_and_not_how_many_wait() -> None:
    visitors = Visitors(host("far", 1, 10), max_wait=9.0)
    await visitors.served(4.0)
    for name in ("a", "b", "c"):
        await visitors.come(name, "flood")
    assert (await visitors.come("d", "flood")).done()
    assert not (await visitors.come("e", "guest")).done(), "his turn comes before the others of the flood"


@awaited
async def test_before_the_first_has_ended_well_nobody_knows_how_long_it_takes() -> None:
    visitors = Visitors(host("far", 1, 10), max_wait=1.0)
    gone = await visitors.come("gone")
    visitors.now += 100.0
    await visitors.leave("gone")
    assert gone.cancelled()
    assert not visitors.hosts[0].service
    await visitors.come("a")
    assert not (await visitors.come("b")).done()


@awaited
async def test_who_is_refused_hears_when_those_who_wait_have_been_served() -> None:
    visitors = Visitors(host("far", 2, 2))
    await visitors.served(10.0)
    for name in ("a", "b", "c", "d"):
        await visitors.come(name, "x")
    with pytest.raises(QueueFull) as caught:
        await (await visitors.come("e", "x"))
    assert caught.value.retry_after == 15.0, "three times ten seconds, two at a time"


@awaited
async def test_the_first_host_in_order_that_is_free_is_taken() -> None:
    one, two, three = host("one", 1), host("two", 1), host("three", 1)
    visitors = Visitors(one, two, three)
    await visitors.come("a", hosts=(two, one, three))
    await visitors.come("b", hosts=(two, three, one))
    await visitors.come("c")
    assert visitors.at == {"a": "two", "b": "three", "c": "one"}


@awaited
async def test_who_waits_gets_whichever_of_his_hosts_is_free_first() -> None:
    one, two, three = host("one", 1), host("two", 1), host("three", 1)
    visitors = Visitors(one, two, three)
    for name in "abc":
        await visitors.come(name)
    await visitors.come("d", hosts=(one, two))
    await visitors.come("e", hosts=(three,))
    await visitors.come("f", hosts=(two, three))
    await visitors.go("b")
    await visitors.go("c")
    assert (visitors.at["d"], visitors.at["e"], visitors.waiting) == ("two", "three", 1)
    await visitors.go("e")
    assert visitors.at["f"] == "three"


@awaited
async def test_who_waits_at_several_hosts_gets_one_place() -> None:
    one, two = host("one", 1), host("two", 1)
    visitors = Visitors(one, two)
    for name in "abc":
        await visitors.come(name)
    visitors._gates["a"].set()
    visitors._gates["b"].set()
    await turns()
    assert (visitors.at["c"], visitors.busy, visitors.waiting) == ("one", 1, 0)


@awaited
async def test_who_is_served_elsewhere_all_the_time_still_has_his_turns_here() -> None:
    """With one turn for all hosts, each place at the second host would put off the one at the first again."""
    scarce, other = host("scarce", 1), host("other", 0)
    limit(other, 1000)
    visitors = Visitors(scarce, other)
    for number in range(6):
        await visitors.come(f"flood{number}", "flood", (scarce,))
    await visitors.come("mine", "me", (scarce,))
    for number in range(50):
        await visitors.come(f"other{number}", "me", (other,))
    await visitors.go("flood0")
    assert visitors.at["mine"] == "scarce"


@awaited
async def test_of_a_callers_requests_the_one_that_suits_best_goes_first() -> None:
    one, two = host("one", 1), host("two", 1)
    visitors = Visitors(one, two)
    for name in ("a", "b"):
        await visitors.come(name)
    await visitors.come("first", "x", (one, two))
    await visitors.come("second", "x", (two, one))
    await visitors.go("b")
    await visitors.go("a")
    assert (visitors.at["second"], visitors.at["first"]) == ("two", "one")


@awaited
async def test_it_does_not_go_before_another_callers() -> None:
    one, two = host("one", 1), host("two", 1)
    visitors = Visitors(one, two)
    for name in ("a", "b"):
        await visitors.come(name)
    await visitors.come("first", "x", (one, two))
    await visitors.come("second", "y", (two, one))
    await visitors.go("b")
    assert visitors.at["first"] == "two"


@awaited
async def test_nobody_is_passed_over_for_ever() -> None:
    one, two = host("one", 1), host("two", 1)
    visitors = Visitors(one, two)
    for name in ("a", "b"):
        await visitors.come(name)
    await visitors.come("old", "x", (one, two))
    for number in range(8):
        await visitors.come(str(number), "x", (two, one))
    for name in ("b", "0", "1", "2", "3"):
        await visitors.go(name)
    assert visitors.at["old"] == "two", "after twice for each of its hosts"


@awaited
async def test_the_line_holds_what_its_hosts_allow_together() -> None:
    one, two = host("one", 1, 1), host("two", 1, 2)
    visitors = Visitors(one, two)
    for number in range(5):
        await visitors.come(str(number), "x")
    assert (visitors.busy, one.waiting, two.waiting) == (2, 1, 2)
    with pytest.raises(QueueFull, match="the servers 'one', 'two' are busy: 3 requests wait already"):
        await (await visitors.come("5", "x"))


@awaited
async def test_who_may_go_anywhere_leaves_room_in_the_line_of_who_may_not() -> None:
    one, two = host("one", 1, 2), host("two", 1, 2)
    visitors = Visitors(one, two)
    for number in range(4):
        await visitors.come(str(number), "x")
    assert not (await visitors.come("4", "x", (one,))).done()
    assert (await visitors.come("5", "x", (one,))).done(), "its two are taken: by one of either kind"
    assert not (await visitors.come("6", "x")).done()


@awaited
async def test_at_a_full_line_only_those_who_stand_there_can_make_room() -> None:
    one, two = host("one", 1, 2), host("two", 1, 2)
    visitors = Visitors(one, two)
    tasks = [await visitors.come(str(number), "flood") for number in range(6)]  # the last but one stands at the second
    await visitors.come("guest", "guest", (one,))
    assert [task.done() for task in tasks] == [False, False, False, False, True, False]
    assert (one.waiting, two.waiting) == (2, 2)
    with pytest.raises(QueueFull, match="the servers 'one', 'two' are busy: others who had fewer requests here came"):
        await tasks[4]


@awaited
async def test_where_nobody_may_wait_nobody_does() -> None:
    visitors = Visitors(host("far", 1, 0))
    await visitors.come("a")
    with pytest.raises(QueueFull):
        await (await visitors.come("b"))


@awaited
async def test_the_wait_is_foreseen_from_all_hosts_together() -> None:
    one, two = host("one", 1), host("two", 3)
    visitors = Visitors(one, two, max_wait=2.0)
    one.service, two.service = 4.0, 4.0
    for number in range(4 + 2):  # four have places; one a second comes back, and the second who waits waits for 2 s
        assert not (await visitors.come(str(number), "x")).done()
    with pytest.raises(QueueFull, match=r"about 3\.0 s"):
        await (await visitors.come("late", "x"))


@awaited
async def test_a_higher_limit_counts_from_the_next_look_on() -> None:
    far = host("far", 1)
    visitors = Visitors(far)
    for name in "abc":
        await visitors.come(name)
    limit(far, 3)
    await visitors.look(far)
    assert visitors.inside == ["a", "b", "c"]


@awaited
async def test_a_lower_limit_takes_no_place_away_and_gives_none() -> None:
    far = host("far", 3)
    visitors = Visitors(far)
    for name in "abcd":
        await visitors.come(name)
    limit(far, 1)
    await visitors.look(far)
    await visitors.go("a")
    await visitors.go("b")
    assert (visitors.inside, visitors.busy) == (["a", "b", "c"], 1)
    await visitors.go("c")
    assert visitors.inside == ["a", "b", "c", "d"]


@awaited
async def test_a_shorter_line_throws_nobody_out() -> None:
    far = host("far", 1, 5)
    visitors = Visitors(far)
    for name in "abcd":
        await visitors.come(name, "x")
    far.spec = replace(far.spec, max_queue=1)
    await visitors.look(far)
    assert visitors.waiting == 3
    assert (await visitors.come("e", "x")).done()
    await visitors.go("a")
    assert visitors.inside == ["a", "b"]


@awaited
async def test_what_other_gateways_have_there_counts() -> None:
    far = host("far", 2)
    far.elsewhere = 2
    visitors = Visitors(far)
    await visitors.come("a")
    assert visitors.waiting == 1
    far.elsewhere = 1
    await visitors.look(far)
    assert visitors.inside == ["a"]


@awaited
async def test_who_comes_to_a_free_host_does_not_overtake_those_who_wait_for_it() -> None:
    far = host("far", 1)
    visitors = Visitors(far)
    for name in "ab":
        await visitors.come(name)
    limit(far, 2)  # nobody has looked yet
    await visitors.come("c")
    assert visitors.inside == ["a", "b"]


@awaited
async def test_when_all_hosts_of_who_waits_are_down_he_hears_of_it() -> None:
    one, two = host("one", 1), host("two", 1)
    visitors = Visitors(one, two)
    for name in "ab":
        await visitors.come(name)
    both, first = await visitors.come("both"), await visitors.come("first", hosts=(one,))
    one.state = "down"
    await visitors.look(one)
    assert (first.done(), both.done()) == (True, False)
    with pytest.raises(Unavailable, match="the server 'one' does not answer"):
        await first
    two.spec = replace(two.spec, is_active=False)
    await visitors.look(two)
    with pytest.raises(Unavailable, match="none of the servers 'one', 'two' answers") as caught:
        await both
    assert caught.value.retry_after == 5.0
    await visitors.go("a")
    await visitors.go("b")
    assert (visitors.busy, visitors.waiting, visitors.places.waiting) == (0, 0, 0)


@awaited
async def test_a_host_that_is_down_gets_nobody_and_is_used_again_when_it_is_up() -> None:
    one, two = host("one", 1), host("two", 1)
    visitors = Visitors(one, two)
    one.state = "down"
    await visitors.come("a")
    await visitors.come("b")
    assert (visitors.at, visitors.waiting) == ({"a": "two"}, 1)
    one.state = "up"
    await visitors.look(one)
    assert visitors.at["b"] == "one"


@awaited
async def test_where_nothing_answers_nobody_waits() -> None:
    far = host("far", 1)
    far.state = "down"
    visitors = Visitors(far)
    with pytest.raises(Unavailable, match="the server 'far' does not answer"):
        await (await visitors.come("a"))
    assert visitors.waiting == 0


@awaited
async def test_a_host_that_comes_back_gets_one_request_until_it_has_proved_itself() -> None:
    far = host("far", 0)
    far.state = "trying"
    visitors = Visitors(far)
    for name in "abc":
        await visitors.come(name)
    assert (visitors.busy, visitors.waiting) == (1, 2)
    far.state = "up"
    await visitors.look(far)
    assert (visitors.busy, visitors.waiting) == (3, 0)


@awaited
async def test_who_comes_again_goes_before_his_own_and_not_before_others() -> None:
    far = host("far", 1)
    visitors = Visitors(far)
    await visitors.come("busy", "else")
    for name, caller in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        await visitors.come(name, caller)
    await visitors.come("failed", "a", again=True)
    for name in ("busy", "b1", "failed", "a1"):
        await visitors.go(name)
    assert visitors.inside == ["busy", "b1", "failed", "a1", "a2"]


@awaited
async def test_who_comes_again_is_not_the_newest_when_a_flood_makes_room() -> None:
    visitors = Visitors(host("far", 1, 3))
    await visitors.come("busy", "else")
    await visitors.come("a1", "flood")
    newest = await visitors.come("a2", "flood")
    again = await visitors.come("failed", "flood", again=True)
    await visitors.come("guest", "guest")
    with pytest.raises(QueueFull):
        await newest
    assert not again.done()


@awaited
async def test_a_request_that_failed_gives_its_place_back_and_tells_nothing_of_time() -> None:
    far = host("far", 1)
    visitors = Visitors(far)
    await visitors.come("a")
    visitors.now += 7.0
    await visitors.leave("a")
    assert (far.in_flight, far.service) == (0, 0.0)


@awaited
async def test_nothing_stays_of_hosts_at_which_nobody_is() -> None:
    one, two = host("one", 1), host("two", 1)
    visitors = Visitors(one, two)
    for name in "abcd":
        await visitors.come(name)
    await visitors.leave("d")
    for name in "abc":
        await visitors.go(name)
    assert not visitors.places._turns._stands


@awaited
async def test_who_is_called_to_prove_a_host_and_leaves_in_that_moment_lets_another_prove_it() -> None:
    one, two = host("one", 2), host("two", 1)
    visitors = Visitors(one, two)
    await visitors.come("old", hosts=(one,))
    await visitors.come("busy", hosts=(two,))
    one.state = "down"
    visitors.places.look(one)
    called, _ = [await visitors.come(name) for name in ("called", "next")]
    one.state = "trying"
    visitors.places.look(one)
    called.cancel()
    await turns()
    assert (visitors.at.get("next"), one.in_flight) == ("one", 2)
