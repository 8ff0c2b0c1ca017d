"""Turns at a line: who is next, who goes when it is full, and how many are served before a newcomer."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from localmodels.core.fair import Line


def line_of(*requests: str) -> Line[str]:
    """A line in which these wait; the first letter of each is its caller."""
    line: Line[str] = Line()
    for request in requests:
        line.join(request, request, request[0])
    return line


def serve(line: Line[str], weights: dict[str, int] | None = None) -> str:
    """Serves the next one."""
    request = line.first()
    assert request is not None
    line.leave(request)
    line.served(request[0], (weights or {}).get(request[0], 1))
    return request


def served(line: Line[str]) -> list[str]:
    """Serves them all."""
    return [serve(line) for _ in range(len(line))]


def test_one_caller_is_served_in_order_of_arrival() -> None:
    assert served(line_of("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_callers_with_one_request_each_are_served_in_order_of_arrival() -> None:
    assert served(line_of("a1", "b1", "c1")) == ["a1", "b1", "c1"]


def test_callers_take_turns_however_many_requests_they_have() -> None:
    assert served(line_of("a1", "a2", "a3", "a4", "b1", "b2", "c1")) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_who_comes_late_is_next_after_one_turn_of_the_others() -> None:
    line = line_of("a1", "a2", "a3", "a4")
    assert [serve(line), serve(line)] == ["a1", "a2"]
    line.join("b1", "b1", "b")
    line.join("b2", "b2", "b")
    assert served(line) == ["b1", "a3", "b2", "a4"]


def test_who_was_served_without_waiting_has_had_his_turn() -> None:
    line: Line[str] = Line()
    line.served("a")
    line.join("a2", "a2", "a")
    line.join("b1", "b1", "b")
    assert served(line) == ["b1", "a2"]


def test_who_joins_first_goes_before_his_own_requests_alone() -> None:
    line = line_of("a1", "a2", "b1")
    line.join("a0", "a0", "a", first=True)
    assert served(line) == ["b1", "a0", "a1", "a2"]


def test_nobody_saves_up_turns_by_staying_away() -> None:
    line = line_of("a1", "b1")
    served(line)
    for number in range(50):
        line.join(f"a{number}", f"a{number}", "a")
        serve(line)
    for request in ("a1", "a2", "b1", "b2", "b3"):
        line.join(request, request, request[0])
    assert served(line) == ["b1", "a1", "b2", "a2", "b3"]


def test_nor_by_waiting_for_what_did_not_fit() -> None:
    line = line_of("b1", "b2", "b3", *(f"a{number}" for number in range(5)))
    for _ in range(3):
        request = line.first(lambda item: item.startswith("a"))
        assert request is not None
        line.leave(request)
        line.served("a")
    assert served(line) == ["b1", "a3", "b2", "a4", "b3"]


def test_who_leaves_has_lost_nothing() -> None:
    line = line_of("a1", "a2", "a3", "b1", "b2")
    line.leave("a1")
    line.leave("a2")
    assert served(line) == ["a3", "b1", "b2"]


def test_weights_are_shares() -> None:
    line: Line[str] = Line()
    for caller, weight in (("a", 1), ("b", 2), ("c", 7)):
        for number in range(100):
            line.join(f"{caller}{number}", f"{caller}{number}", caller, weight)
    for _ in range(10):
        shares = Counter(serve(line, {"a": 1, "b": 2, "c": 7})[0] for _ in range(10))
        assert shares == {"a": 1, "b": 2, "c": 7}


def test_a_small_weight_does_not_delay_the_first_request() -> None:
    line: Line[str] = Line()
    for number in range(20):
        line.join(f"a{number}", f"a{number}", "a", 10)
    serve(line, {"a": 10})
    line.join("b1", "b1", "b", 1)
    assert serve(line, {"a": 10}) == "b1"


def test_only_those_who_fit_are_next_and_the_others_keep_their_places() -> None:
    line = line_of("a1", "a2", "b1")
    assert line.first(lambda item: item != "a1") == "a2"
    assert line.first(lambda item: not item.startswith("a")) == "b1"
    assert line.first(lambda item: item == "c1") is None
    assert line.values() == ["a1", "a2", "b1"]


def test_a_full_line_makes_room_at_the_cost_of_whoever_has_most() -> None:
    line = line_of("a1", "b1", "a2", "a3")
    assert line.surplus("c") == "a3", "his newest"
    assert line.surplus("b") == "a3"
    assert line.surplus("a") is None


def test_but_not_so_that_two_push_each_other_out() -> None:
    line = line_of("a1", "a2", "b1")
    assert line.surplus("b") is None, "b would have as many then"
    assert line_of("a1", "b1").surplus("c") is None
    assert line_of().surplus("c") is None


def test_how_many_are_served_before_a_newcomer() -> None:
    line = line_of("a1", "a2", "a3", "b1")
    assert [line.ahead("c"), line.ahead("b"), line.ahead("a")] == [2, 3, 4]
    line.join("c1", "c1", "c")
    assert [line.ahead("c"), line.ahead("c", 10)] == [4, 3]


@pytest.mark.parametrize("seed", range(20))
def test_it_is_as_foreseen(seed: int) -> None:
    """When nobody else comes, a newcomer is served after exactly as many as were foreseen."""
    random = Random(seed)
    line: Line[str] = Line()
    weights = {caller: random.choice((1, 1, 2, 5)) for caller in "abcd"}
    for number in range(200):
        caller = random.choice("aaabbcd")
        foreseen = line.ahead(caller, weights[caller])
        line.join(f"{caller}{number}", f"{caller}{number}", caller, weights[caller])
        if random.random() < 0.7:
            serve(line, weights)
        elif random.random() < 0.1:
            before = [serve(line, weights) for _ in range(len(line))].index(f"{caller}{number}")
            assert abs(before - foreseen) <= 1, "equal turns go to who has waited for longer"


def test_it_remembers_nobody_who_owes_nothing() -> None:
    line: Line[str] = Line()
    for number in range(1000):
        line.served(f"caller {number}")
        line.served("a")
    assert len(vars(line)["_accounts"]) <= 3
