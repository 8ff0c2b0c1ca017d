"""Models that fail on servers which are well: when they rest, who may try them, and when their server is to blame."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.fleet.standing import host

from localmodels.fleet.breaker import IN_A_ROW, SILENT
from localmodels.fleet.copies import BLAMED, FIRST, LONGEST, MANY, Copies, Told, healing

UNREMARKABLE = Told(given_up=False, blames_server=False)


class World:
    """Copies on two servers, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.copies = Copies()
        self.hosts = (host("a", loaded=None), host("b", loaded=None))
        self.answered_at = 0.0

    def request(self, outcome: str, model: str = "m", at: int = 0) -> Told:
        one = self.hosts[at]
        trying = self.copies.began(one, model, self.now)
        if outcome == "answer":
            self.copies.heard(one, model)
            self.copies.answered(one, model)
            self.answered_at = self.now
        elif outcome == "left":
            self.copies.left(one, model, self.now)
        else:
            silent = outcome == "silence"
            return self.copies.failed(one, model, self.now, silent=silent, trying=trying, answered_at=self.answered_at)
        return UNREMARKABLE

    def requests(self, outcomes: Sequence[str], model: str = "m", at: int = 0) -> Told:
        told = UNREMARKABLE
        for outcome in outcomes:
            told = self.request(outcome, model, at)
        return told

    def rests(self, model: str = "m") -> list[str]:
        return [one.spec.name for one in self.copies.resting(model, self.now)]


def test_five_failures_in_a_row_and_no_fewer() -> None:
    world = World()
    world.requests(["failure"] * (IN_A_ROW - 1))
    assert world.copies.fails(world.hosts[0])
    world.requests(["answer", *["failure"] * (IN_A_ROW - 1)])
    assert world.rests() == []
    assert world.request("failure") == Told(given_up=True, blames_server=False)
    assert (world.rests(), world.rests("n")) == (["a"], [])
    assert not world.copies.fails(world.hosts[0]), "what was given up tells nothing new of its server"


def test_a_model_that_is_silent_every_other_time_rests_too() -> None:
    world = World()
    world.requests(["silence", "answer"] * (SILENT - 1))
    assert world.rests() == []
    world.request("silence")
    assert world.rests() == ["a"]


def test_one_request_at_a_time_tries_it_and_each_failure_makes_the_rest_longer() -> None:
    world = World()
    world.requests(["failure"] * IN_A_ROW)
    rest = FIRST
    for _ in range(5):
        assert world.rests() == ["a"]
        world.now += rest
        assert world.rests() == []
        trying = [world.copies.began(world.hosts[0], "m", world.now) for _ in range(3)]
        assert trying == [True, False, False]
        assert world.rests() == ["a"], "while it is tried nobody else goes there by choice"
        world.copies.failed(world.hosts[0], "m", world.now, silent=False, trying=True, answered_at=0.0)
        rest = min(2 * rest, LONGEST)
    assert rest == LONGEST


def test_where_nobody_else_is_left_it_may_be_tried_at_once_and_once() -> None:
    world = World()
    world.requests(["failure"] * IN_A_ROW)
    assert world.copies.began(world.hosts[0], "m", world.now)
    assert not world.copies.began(world.hosts[0], "m", world.now)


def test_a_try_that_is_silent_for_a_minute_is_the_only_one_of_that_minute() -> None:
    world = World()
    world.requests(["silence"] * IN_A_ROW)
    assert world.copies.began(world.hosts[0], "m", world.now)
    for _ in range(60):
        world.now += 1.0
        assert not world.copies.began(world.hosts[0], "m", world.now)
        assert world.rests() == ["a"]
        assert FIRST <= healing(world.copies.of(world.hosts[0], "m"), world.now) <= LONGEST
    world.copies.failed(world.hosts[0], "m", world.now, silent=True, trying=True, answered_at=0.0)
    world.now += LONGEST
    assert world.copies.began(world.hosts[0], "m", world.now)


def test_who_left_lets_another_try_and_an_answer_brings_it_back() -> None:
    world = World()
    world.requests(["failure"] * IN_A_ROW)
    world.request("left")
    assert world.rests() == []
    world.request("answer")
    assert world.rests() == []
    world.requests(["failure"] * (IN_A_ROW - 1))
    assert world.rests() == []


def test_who_breaks_off_every_answer_does_not_come_back_by_beginning_one() -> None:
    world = World()
    world.requests(["failure"] * IN_A_ROW)
    world.now += FIRST
    world.copies.heard(world.hosts[0], "m")
    assert world.rests() == []
    world.request("failure")
    assert world.rests() == ["a"]


def test_several_copies_that_rest_blame_their_server_unless_it_answers_others() -> None:
    world = World()
    told = [world.requests(["failure"] * IN_A_ROW, f"m{number}").blames_server for number in range(BLAMED)]
    assert told == [False] * (BLAMED - 1) + [True]
    world = World()
    for number in range(2 * BLAMED):
        assert not world.requests(["failure"] * IN_A_ROW, f"m{number}").blames_server
        world.now += 1
        world.request("answer", "good")
    assert not world.requests(["failure"] * IN_A_ROW, "m", at=1).blames_server, "nor does it blame another"


def test_names_that_callers_make_up_are_not_remembered_for_ever() -> None:
    world = World()
    for number in range(3 * MANY):
        world.request("failure", f"made-up-{number}")
    assert len(world.copies._known[world.hosts[0]]) == MANY
    world.copies.forget(world.hosts[0])
    assert not world.copies


@pytest.mark.parametrize("model", ["m", ""])
def test_of_what_is_well_nothing_is_kept(model: str) -> None:
    world = World()
    world.requests(["answer"] * 3, model)
    assert not world.copies
    world.requests(["failure", "answer"], model)
    assert not world.copies


@given(st.lists(st.tuples(st.sampled_from(["begin", "failure", "silence", "left", "answer"]), st.floats(0.0, 3.0))))
def test_laws(steps: list[tuple[str, float]]) -> None:
    world = World()
    one = world.hosts[0]
    trying: list[float] = []
    for step, seconds in steps:
        world.now += seconds
        before = world.copies.of(one, "m")
        if step == "begin":
            if world.copies.began(one, "m", world.now):
                assert before.rest
                assert not trying, "one try at a time"
                trying.append(world.now)
        else:
            world.request(step)
            trying.clear()
        copy = world.copies.of(one, "m")
        assert copy.rest <= LONGEST
        assert copy.until - world.now <= LONGEST, "what healed is asked again soon"
        assert copy.rest or (copy.row < IN_A_ROW and copy.window.bit_count() < SILENT)
