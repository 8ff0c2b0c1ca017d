"""What follows upon a failure: who is left, what is decided anew, and what has been tried."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.unit.fleet.standing import host

from localmodels.flows.routing.plans import Hop, Plan, Tried

A, B, C = (Hop(host(name), "m") for name in "abc")
OTHER = Hop(host("a", "n"), "n")


class Deciding:
    """Decides anew, and notes for whom."""

    def __init__(self, *hops: Hop) -> None:
        self.hops = hops
        self.asked: list[Tried] = []

    def __call__(self, tried: Tried) -> tuple[Hop, ...]:
        self.asked.append(tried)
        return self.hops


def names(hops: Sequence[Hop]) -> list[str]:
    return [f"{hop.host.spec.name}/{hop.model}" for hop in hops]


def test_the_next_is_the_next_of_what_was_decided() -> None:
    deciding = Deciding(OTHER)
    plan = Plan((A, B), deciding)
    following = plan.without(A)
    assert (names(following.hops), following.tried, deciding.asked) == (["b/m"], (("a", "m:latest"),), [])
    assert plan.hops == (A, B), "a plan changes nothing"


def test_when_all_have_failed_it_is_decided_anew() -> None:
    deciding = Deciding(OTHER)
    following = Plan((A, B), deciding).without(A, whole=True).without(B)
    assert (names(following.hops), following.model) == (["a/n"], "n:latest")
    assert deciding.asked == [(("a", ""), ("b", "m:latest"))]


def test_what_is_decided_for_one_host_alone_has_nothing_behind_it() -> None:
    assert Plan((A,)).without(A).hops == ()
    assert Plan((A, B), Deciding(C)).alone(A).without(A).hops == ()


def test_those_that_went_down_are_tried_as_a_whole() -> None:
    deciding = Deciding(C)
    following = Plan((A, B), deciding, tried=(("x", "m:latest"),)).elsewhere()
    assert following.hops == (C,)
    assert deciding.asked == [(("x", "m:latest"), ("a", ""), ("b", ""))]


def test_the_one_more_chance_is_not_for_proving_a_host() -> None:
    trying = Hop(host("t", state="trying"), "m")
    assert names(Plan((A, trying, B)).without(A, repeated=True).hops) == ["b/m", "t/m"]
    assert names(Plan((A, trying, B)).without(A).hops) == ["t/m", "b/m"]
    assert names(Plan((A,), Deciding(trying, B)).without(A, repeated=True).hops) == ["b/m", "t/m"]
    assert Plan((A, B, C)).without(A, repeated=True).without(B).repeated


@pytest.mark.parametrize(("hops", "left"), [((A, B, C), ["a/m", "c/m"]), ((B, A, C), None), ((B,), None)])
def test_where_the_best_cannot_be_asked_as_it_is_there_is_another_way(
    hops: tuple[Hop, ...], left: list[str] | None
) -> None:
    suiting = Plan(hops, suits=lambda hop: hop is not B).suiting()
    assert (suiting and names(suiting.hops)) == left
    assert Plan(hops).suiting() == Plan(hops)
