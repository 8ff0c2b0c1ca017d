"""When a server is asked no more, and how it comes back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.backends.round_trip import Unanswered
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Garbled,
    InvalidRequest,
    LoadFailed,
    LoopDetected,
    ModelNotFound,
    OutOfMemory,
    QueueFull,
    RateLimited,
    StreamCut,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from localmodels.fleet import breaker
from localmodels.fleet.breaker import (
    DARE,
    FRESH,
    GOOD_PROBES,
    IN_A_ROW,
    MANY_GOOD_PROBES,
    SILENT,
    WINDOW,
    Breaker,
    Met,
)

ANSWER: Met = "answer"
FAILURE: Met = "failure"
SILENCE: Met = "silence"
NOTHING: Met = "nothing"
EVENTS = st.lists(
    st.sampled_from(["begin", "first", "answer", "failure", "silence", "nothing", "seen", "unseen"]), max_size=120
)


def requests(known: Breaker, outcomes: Sequence[Met]) -> Breaker:
    """So many requests, one after the other."""
    for what in outcomes:
        known, proving = breaker.began(known)
        known = breaker.ended(known, what, known.era, proving=proving)
    return known


def test_five_failures_in_a_row_and_no_fewer() -> None:
    known = requests(FRESH, [ANSWER, *[FAILURE] * (IN_A_ROW - 1)])
    assert known.state == "up"
    assert requests(known, [ANSWER, *[FAILURE] * (IN_A_ROW - 1)]).state == "up"
    assert requests(known, [FAILURE]).state == "down"


def test_who_is_silent_every_other_time_is_given_up_too() -> None:
    known = requests(FRESH, [SILENCE, ANSWER] * (SILENT - 1))
    assert known.state == "up"
    assert requests(known, [SILENCE]).state == "down"


def test_silence_long_ago_is_forgotten() -> None:
    known = FRESH
    for _ in range(20):
        known = requests(known, [SILENCE, ANSWER, ANSWER])
    assert known.state == "up"
    assert known.window.bit_count() <= WINDOW // 3 + 1


def test_one_request_proves_it() -> None:
    known = breaker.seen(requests(FRESH, [FAILURE] * IN_A_ROW))
    assert known.state == "trying"
    known, first = breaker.began(known)
    known, second = breaker.began(known)
    assert (first, second) == (True, False)
    known = breaker.answered(known, known.era)
    assert known.state == "up"
    known = breaker.ended(known, "answer", known.era, proving=True)
    assert (known.state, known.row) == ("up", 0)


def test_its_failure_is_enough() -> None:
    known = breaker.seen(requests(FRESH, [FAILURE] * IN_A_ROW))
    assert requests(known, [FAILURE]).state == "down"


def test_who_breaks_off_every_answer_does_not_come_back_by_beginning_one() -> None:
    known = breaker.seen(requests(FRESH, [FAILURE] * IN_A_ROW))
    known, _ = breaker.began(known)
    known = breaker.answered(known, known.era)
    assert breaker.ended(known, "failure", known.era, proving=True).state == "down"


def test_who_left_lets_another_try() -> None:
    known = breaker.seen(requests(FRESH, [FAILURE] * IN_A_ROW))
    known = requests(known, [NOTHING])
    assert (known.state, known.proving) == ("trying", False)
    assert breaker.began(known)[1]


def test_what_began_before_it_was_given_up_says_nothing_of_who_came_back() -> None:
    old = requests(FRESH, [ANSWER])
    known = breaker.seen(requests(old, [FAILURE] * IN_A_ROW))
    for what in (FAILURE, SILENCE, ANSWER, NOTHING):
        assert breaker.ended(known, what, old.era) == known
    assert breaker.answered(known, old.era) == known


def test_probes_make_up_for_probes_and_not_for_requests() -> None:
    by_probes = breaker.unseen(breaker.seen(FRESH))
    by_requests = requests(FRESH, [FAILURE] * IN_A_ROW)
    for _ in range(GOOD_PROBES):
        assert "up" not in (by_probes.state, by_requests.state)
        by_probes, by_requests = breaker.seen(by_probes), breaker.seen(by_requests)
    assert by_probes.state == "up"
    assert by_requests.state == "trying"
    assert breaker.unseen(by_requests).blamed, "nor does a bad one"


def seen_well(known: Breaker, times: int) -> Breaker:
    """So many good probes, one after the other."""
    for _ in range(times):
        known = breaker.seen(known)
    return known


def test_whom_nobody_asks_is_proved_by_many_probes_and_one_failure_gives_him_up_again() -> None:
    given_up = requests(FRESH, [FAILURE] * IN_A_ROW)
    assert seen_well(given_up, MANY_GOOD_PROBES - 1).state == "trying"
    known = seen_well(given_up, MANY_GOOD_PROBES)
    assert known.state == "up"
    assert requests(known, [FAILURE]).state == "down", "it costs no more than one that is tried"
    assert requests(known, [ANSWER, *[FAILURE] * (IN_A_ROW - 1)]).state == "up", "an answer makes it as others"
    interrupted = seen_well(breaker.unseen(seen_well(given_up, MANY_GOOD_PROBES - 1)), MANY_GOOD_PROBES - 1)
    assert interrupted.state == "trying", "in a row"


def test_a_dead_server_that_answers_probes_costs_five_failures_and_then_one_for_each_time_it_is_believed() -> None:
    known, failed = requests(FRESH, [FAILURE] * IN_A_ROW), IN_A_ROW
    for times in range(1, 3 * MANY_GOOD_PROBES):
        known = seen_well(known, times)
        assert known.state in {"trying", "up"}
        known, failed = requests(known, [FAILURE]), failed + 1
        assert known.state == "down"


def test_while_a_request_proves_it_probes_do_not() -> None:
    for given_up in (breaker.unseen(FRESH), requests(FRESH, [FAILURE] * IN_A_ROW)):
        proved, _ = breaker.began(breaker.seen(given_up))
        known = seen_well(proved, 2 * MANY_GOOD_PROBES)
        assert (known.state, known.proving) == ("trying", True)


def test_a_request_may_prove_who_only_requests_have_found_failing() -> None:
    given_up = requests(FRESH, [FAILURE] * IN_A_ROW)
    assert breaker.untried(given_up, 10.0) == 0.0, "at once"
    tried, proving = breaker.began(breaker.dared(given_up))
    assert proving
    failed = breaker.ended(tried, FAILURE, tried.era, proving=True, now=10.0)
    assert (failed.state, breaker.untried(failed, 10.0), breaker.untried(failed, 10.5)) == ("down", DARE, DARE - 0.5)
    assert breaker.untried(failed, 11.0) == 0.0
    answered = breaker.ended(tried, ANSWER, tried.era, proving=True, now=10.0)
    assert (answered.state, breaker.untried(answered, 10.0)) == ("up", None)


def test_nobody_needs_to_try_who_was_looked_at_and_found_dead() -> None:
    dead = breaker.unseen(requests(FRESH, [FAILURE] * IN_A_ROW))
    assert breaker.untried(dead, 1e9) is None
    assert breaker.untried(breaker.unseen(FRESH), 1e9) is None
    by_name = breaker.began(breaker.dared(dead))[0]
    assert breaker.untried(breaker.ended(by_name, FAILURE, by_name.era, proving=True), 1e9) is None
    proved, proving = breaker.began(breaker.seen(dead))
    assert proving
    assert breaker.untried(breaker.ended(proved, FAILURE, proved.era, proving=True, now=5.0), 5.0) == DARE


@pytest.mark.parametrize(
    ("error", "of_the_model"),
    [
        (Unreachable("no connection"), False),
        (Unauthenticated("key"), False),
        (Unanswered("closed"), True),
        (StreamCut("cut"), True),
        (Garbled("what?"), True),
        (BackendError("500"), True),
        (Unavailable("503"), True),
        (BackendTimeout("…"), True),
    ],
)
def test_what_may_be_the_fault_of_a_model(error: BaseException, of_the_model: bool) -> None:
    assert breaker.is_of_the_model(error) is of_the_model


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (None, "answer"),
        (Unreachable("no"), "failure"),
        (StreamCut("cut"), "failure"),
        (Garbled("what?"), "failure"),
        (BackendError("500"), "failure"),
        (Unavailable("503"), "failure"),
        (Unauthenticated("key"), "failure"),
        (BackendTimeout("…"), "silence"),
        (Unavailable("503", retry_after=3.0), "nothing"),
        (QueueFull("full"), "nothing"),
        (OutOfMemory(2, 1), "nothing"),
        (LoopDetected("round"), "nothing"),
        (RateLimited("429"), "nothing"),
        (InvalidRequest("400"), "nothing"),
        (ModelNotFound("m"), "nothing"),
        (LoadFailed("the model"), "nothing"),
        (RuntimeError("ours"), "nothing"),
        (GeneratorExit(), "nothing"),
    ],
)
def test_what_an_outcome_says_of_its_server(error: BaseException | None, what: Met) -> None:
    assert breaker.met(error) == what


@given(EVENTS)
def test_laws(events: list[str]) -> None:
    known = FRESH
    under_way: list[tuple[int, bool]] = []
    for event in events:
        before = known
        if event == "begin":
            known, proving = breaker.began(known)
            under_way.append((known.era, proving))
            assert proving <= (before.state == "trying")
        elif event == "seen":
            known = breaker.seen(known)
            assert known.state in {"up", "trying"}
        elif event == "unseen":
            known = breaker.unseen(known)
            assert known.state == "down"
        elif under_way:
            era, proving = under_way[-1]
            if event == "first":
                known = breaker.answered(known, era)
            else:
                under_way.pop()
                known = breaker.ended(known, event, era, proving=proving)  # type: ignore[arg-type]
            if era != before.era or event == "nothing":
                assert known.state == before.state
        # At most one request proves a server at a time, and only while it is tried.
        assert sum(proving for era, proving in under_way if era == known.era and known.proving) <= 1
        assert not known.proving or known.state == "trying"
        assert known.row < IN_A_ROW
        assert known.window.bit_count() < SILENT
        assert known.era == before.era + (known.state == "down" != before.state)
        # Nobody comes back without an answer or a good probe.
        if before.state == "down" and known.state != "down":
            assert event in {"seen", "first", "answer"}
        # Who has come back has failed so often already that one more failure is enough, until he has answered one.
        if before.state == "trying" and known.state == "up" and event == "seen" and before.blamed:
            assert known.row == IN_A_ROW - 1
        # Whoever was looked at and found dead is tried by nobody who has not asked for him.
        if event == "unseen":
            assert breaker.untried(known, 1e9) is None


@given(EVENTS)
def test_whatever_was_a_good_probe_and_an_answer_bring_it_back(events: list[str]) -> None:
    known = FRESH
    for event in events:
        if event in {"seen", "unseen"}:
            known = breaker.seen(known) if event == "seen" else breaker.unseen(known)
        elif event in {"answer", "failure", "silence", "nothing"}:
            known = requests(known, [event])  # type: ignore[list-item]
    assert requests(breaker.seen(known), [ANSWER]).state == "up"
