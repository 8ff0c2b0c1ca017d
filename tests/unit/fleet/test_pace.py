"""How often a server is asked how it is."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from localmodels.fleet.pace import Mood, Pace, Wait

PACE = Pace()
MOODS: st.SearchStrategy[Mood] = st.sampled_from(["busy", "idle", "down"])


def waits(moods: Sequence[Mood]) -> list[float]:
    wait: Wait | None = None
    found = []
    for mood in moods:
        wait = PACE.after(wait, mood)
        found.append(wait.seconds)
    return found


def test_who_is_down_is_asked_often_and_who_is_idle_ever_less() -> None:
    assert waits(["down"] * 6) == [1.0, 1.5, 2.25, 3.375, 5.0, 5.0]
    idle = waits(["idle"] * 9)
    assert idle[0] == 2.0
    assert idle[-1] == 10.0
    assert idle == sorted(idle)
    assert waits(["busy"] * 4) == [2.0] * 4


def test_many_idle_servers_share_out_a_bounded_number_of_looks() -> None:
    def longest(servers: int) -> float:
        wait = None
        for _ in range(20):
            wait = PACE.after(wait, "idle", servers)
        assert wait is not None
        return wait.seconds

    assert [longest(servers) for servers in (1, 50, 100, 200, 1000)] == [10.0, 10.0, 20.0, 40.0, 60.0]
    assert PACE.after(Wait("down", 5.0), "down", 1000).seconds == PACE.longest_down, "who is down is found as soon"


def test_another_mood_begins_anew() -> None:
    moods: list[Mood] = ["idle", "idle", "down", "down", "idle", "busy", "idle"]
    assert waits(moods) == [2.0, 3.0, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_a_server_that_healed_is_found_in_time() -> None:
    # A look that began just before it healed, the longest wait, and the look that finds it.
    assert PACE.deadline + PACE.longest_down < 10.0


@given(st.lists(MOODS, min_size=1, max_size=40), st.integers())
def test_chance_only_shortens(moods: list[Mood], seed: int) -> None:
    random, wait = Random(seed), None
    for mood in moods:
        wait = PACE.after(wait, mood)
        assert wait.seconds * (1 - PACE.chance) <= PACE.shortened(wait, random) <= wait.seconds


def test_no_two_fall_into_step() -> None:
    random, wait = Random(1), PACE.after(None, "idle")
    assert len({PACE.shortened(wait, random) for _ in range(100)}) == 100
