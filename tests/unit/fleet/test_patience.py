"""Whether to wait where a model is, or to load it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from tests.unit.fleet.standing import GB, host

from localmodels.fleet.hosts import Holding, Host
from localmodels.fleet.patience import worth_waiting_for

M = "m:latest"
MODEL = Holding("m", size=6 * GB)  # 5 s to load


def warm(name: str = "warm", *, busy: int = 4, waiting: int = 0, service: float = 4.0, priority: int = 0) -> Host:
    return host(name, MODEL, busy=busy, waiting=waiting, service=service, loaded=["m"], priority=priority)


def cold(name: str = "cold", *, busy: int = 0, memory: int | None = None, priority: int = 0) -> Host:
    return host(name, MODEL, busy=busy, loaded=[], memory=memory, priority=priority)


def named(hosts: Sequence[Host]) -> list[str]:
    return [one.spec.name for one in worth_waiting_for(hosts, M).hosts]


def test_a_place_that_is_free_in_a_moment_is_worth_waiting_for() -> None:
    assert named([cold(), warm()]) == ["warm"]


def test_a_wait_that_is_longer_than_loading_is_not() -> None:
    assert named([cold(), warm(waiting=3)]) == ["warm"], "4 s"
    assert named([cold(), warm(waiting=4)]) == ["cold", "warm"], "5 s"


def test_what_drives_another_model_out_counts_twice() -> None:
    assert named([cold(memory=1 * GB), warm(waiting=8)]) == ["warm"]
    assert named([cold(memory=10 * GB), warm(waiting=8)]) == ["cold", "warm"]


def test_those_who_have_it_are_waited_for_together() -> None:
    assert named([cold(), warm("one", waiting=4), warm("two", waiting=4)]) == ["one", "two"], "9 at 2 a second"


def test_where_one_that_has_it_is_free_nothing_is_left_out() -> None:
    assert named([warm(busy=1), cold()]) == ["warm", "cold"]


def test_where_all_are_full_too_the_model_stays_where_it_is() -> None:
    assert named([warm(), cold(busy=4)]) == ["warm"]


def test_a_model_that_is_being_loaded_is_there() -> None:
    loading = cold("loading", busy=4)
    loading.asked = {M: 1}
    loading.service = 4.0
    assert named([cold(), loading]) == ["loading"]


def test_who_does_not_tell_what_is_loaded_is_not_passed_over() -> None:
    assert named([host("silent", MODEL), warm()]) == ["silent", "warm"]
    assert named([cold(), host("silent", MODEL, busy=4, service=4.0)]) == ["silent"]


def test_nobody_waits_for_a_line_that_is_full() -> None:
    assert named([cold(), warm(waiting=64, service=0.01)]) == ["cold", "warm"]


def test_nor_for_a_lower_tier() -> None:
    assert named([cold(priority=1), warm()]) == ["cold", "warm"]


def test_nor_for_a_host_that_may_not_be_asked() -> None:
    down = warm()
    down.state = "down"
    off = host("off", MODEL, busy=4, service=4.0, loaded=["m"], active=False)
    assert named([cold(), down, off]) == ["cold", "warm", "off"]


def test_it_is_worth_as_long_as_a_load_would_take_and_no_longer() -> None:
    assert worth_waiting_for([cold(), warm()], M).seconds == 5.0
    assert worth_waiting_for([cold(memory=1 * GB), warm()], M).seconds == 10.0, "another model is driven out"
    assert worth_waiting_for([warm(busy=1), cold()], M).seconds == inf
