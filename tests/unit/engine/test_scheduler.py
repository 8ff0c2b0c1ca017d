"""The scheduler's rules, one by one, as short stories. ``GIB`` is the unit of memory; the machine has ten."""

from __future__ import annotations

import pytest

from localmodels.core.errors import LoadFailed, OutOfMemory, QueueFull, RunnerDied, ShuttingDown, Unavailable
from localmodels.engine.scheduler import (
    Admit,
    Cancel,
    Decision,
    Drain,
    Event,
    Finished,
    Limits,
    LimitsChanged,
    Need,
    Refuse,
    RunnerExited,
    RunnerFailed,
    RunnerReady,
    Scheduler,
    Start,
    State,
    Stop,
    Submit,
    Tick,
    Ticket,
    Unload,
)

GIB = 2**30


class Stage:
    """A scheduler, its clock, and short words for what happens."""

    def __init__(self, **limits: float | None) -> None:
        self.scheduler = Scheduler(Limits(memory=10 * GIB, **limits))  # type: ignore[arg-type]
        self.now = 0.0

    def tell(self, event: Event) -> list[Decision]:
        return self.scheduler.handle(event, self.now)

    def ask(
        self,
        request_id: str,
        model: str,
        size: int = 6,
        *,
        context: int | None = None,
        options: str | None = None,
        keep_alive: float | None = None,
        within: float = 600.0,
        caller: str = "",
        weight: int = 1,
    ) -> list[Decision]:
        need = Need(size * GIB, context, options)
        return self.tell(Submit(Ticket(request_id, model, need, self.now + within, keep_alive, caller, weight)))

    def load(self, request_id: str, model: str, size: int = 6, *, parallel: int = 1, context: int = 4096) -> str:
        """Loads a model for a request and answers it; the runner is idle afterwards."""
        start = next(d for d in self.ask(request_id, model, size) if isinstance(d, Start))
        self.ready(start.runner_id, parallel=parallel, context=context)
        self.tell(Finished(request_id))
        return start.runner_id

    def ready(self, runner_id: str, *, parallel: int = 1, context: int = 4096, memory: int = 0) -> list[Decision]:
        return self.tell(RunnerReady(runner_id, parallel, context, memory * GIB))

    def after(self, seconds: float) -> list[Decision]:
        self.now += seconds
        return self.tell(Tick())

    def wake_in(self) -> float | None:
        wake = self.scheduler.next_wake(self.now)
        return None if wake is None else wake - self.now

    def states(self) -> dict[str, State]:
        return {view.runner_id: view.state for view in self.scheduler.snapshot().runners}


def told(decisions: list[Decision]) -> list[str]:
    """``Start r1``, ``Admit q1 r1`` …, and for refusals the name of the error."""
    words = []
    for decision in decisions:
        if isinstance(decision, Admit):
            words.append(f"Admit {decision.request_id} {decision.runner_id}")
        elif isinstance(decision, Refuse):
            words.append(f"Refuse {decision.request_id} {type(decision.error).__name__}")
        elif isinstance(decision, Stop):
            words.append(f"Stop {decision.runner_id} {decision.reason}")
        else:
            words.append(f"Start {decision.runner_id} {decision.model_key}")
    return words


def test_the_first_request_starts_a_runner_and_is_admitted_when_it_is_ready() -> None:
    stage = Stage()
    assert told(stage.ask("q1", "a")) == ["Start r1 a"]
    assert told(stage.ready("r1")) == ["Admit q1 r1"]
    assert stage.tell(Finished("q1")) == []


def test_as_many_as_it_has_places_are_answered_at_once_and_the_rest_in_turn() -> None:
    stage = Stage()
    for number in range(4):
        stage.ask(f"q{number}", "a")
    assert told(stage.ready("r1", parallel=2)) == ["Admit q0 r1", "Admit q1 r1"]
    assert told(stage.tell(Finished("q1"))) == ["Admit q2 r1"]
    assert told(stage.tell(Finished("q0"))) == ["Admit q3 r1"]


def test_a_request_for_a_loaded_model_does_not_wait_for_another_load() -> None:
    stage = Stage()
    stage.load("q1", "a", 4)
    assert told(stage.ask("q2", "b", 4)) == ["Start r2 b"]
    assert told(stage.ask("q3", "a", 4)) == ["Admit q3 r1"]


def test_two_models_are_loaded_side_by_side_where_they_fit() -> None:
    stage = Stage()
    assert told(stage.ask("q1", "a", 5) + stage.ask("q2", "b", 5)) == ["Start r1 a", "Start r2 b"]
    assert stage.scheduler.snapshot().memory == 10 * GIB


def test_an_idle_runner_makes_room_and_its_memory_counts_until_it_is_gone() -> None:
    stage = Stage()
    stage.load("q1", "a")
    assert told(stage.ask("q2", "b")) == ["Stop r1 evicted"]
    assert told(stage.tell(RunnerExited("r1"))) == ["Start r2 b"]


def test_who_was_used_last_longest_ago_goes_first() -> None:
    stage = Stage()
    for number, model in enumerate("abc"):
        stage.now += 1
        stage.load(f"q{number}", model, 3)
    stage.now += 1
    stage.ask("again", "a", 3)
    stage.tell(Finished("again"))
    assert told(stage.ask("q9", "d", 3)) == ["Stop r2 evicted"]


def test_no_more_are_evicted_than_needed() -> None:
    stage = Stage()
    stage.load("q1", "small", 2)
    stage.now += 1
    stage.load("q2", "large", 8)
    assert told(stage.ask("q3", "b", 7)) == ["Stop r2 evicted"]


def test_a_pinned_runner_goes_last_but_it_goes() -> None:
    stage = Stage()
    stage.ask("q1", "a", 4, keep_alive=-1)
    stage.ready("r1")
    stage.tell(Finished("q1"))
    stage.now += 1
    stage.load("q2", "b", 4)
    assert told(stage.ask("q3", "c", 4)) == ["Stop r2 evicted"]
    stage.tell(RunnerExited("r2"))
    stage.ready("r3")
    assert told(stage.ask("q4", "d", 6)) == ["Stop r1 evicted"]


def test_a_busy_runner_is_never_stopped_but_asked_to_finish_when_others_were_patient() -> None:
    stage = Stage(patience=10.0)
    stage.ask("q1", "a")
    stage.ready("r1", parallel=2)
    assert stage.ask("q2", "b") == []
    stage.now = 9.0
    assert told(stage.ask("q3", "a")) == ["Admit q3 r1"]
    stage.tell(Finished("q3"))
    assert stage.wake_in() == pytest.approx(1.0)
    assert stage.after(1.0) == []
    assert stage.states() == {"r1": State.DRAINING}
    assert stage.ask("q4", "a") == [], "nobody new while it drains"
    assert told(stage.tell(Finished("q1"))) == ["Stop r1 evicted"]
    assert told(stage.tell(RunnerExited("r1"))) == ["Start r2 b"], "not back to the model that made way"
    assert told(stage.ready("r2")) == ["Admit q2 r2"]
    assert told(stage.tell(Finished("q2"))) == ["Stop r2 evicted"]
    assert told(stage.tell(RunnerExited("r2"))) == ["Start r3 a"]
    assert told(stage.ready("r3")) == ["Admit q4 r3"]


def test_a_model_that_was_just_loaded_has_its_turn() -> None:
    stage = Stage(patience=10.0)
    stage.ask("q1", "a")
    stage.now = 8.0
    stage.ready("r1")
    stage.now = 9.0
    stage.ask("q2", "b")
    stage.after(9.5)
    assert stage.states() == {"r1": State.READY}
    stage.after(0.5)
    assert stage.states() == {"r1": State.DRAINING}


def test_a_draining_runner_is_reprieved_when_nobody_wants_its_room_any_more() -> None:
    stage = Stage(patience=10.0)
    stage.ask("q1", "a")
    stage.ready("r1", parallel=2)
    stage.ask("q2", "b")
    stage.after(10.0)
    assert stage.ask("q3", "a") == []
    assert told(stage.tell(Cancel("q2"))) == ["Admit q3 r1"]
    assert stage.states() == {"r1": State.READY}


def test_room_kept_for_the_patient_is_not_taken_by_the_young() -> None:
    stage = Stage(patience=10.0)
    stage.ask("q1", "a", 6)
    stage.ready("r1")
    stage.ask("q2", "b", 8)
    stage.after(10.0)
    assert stage.ask("q3", "c", 3) == [], "4 GiB are free, and b needs them"


def test_before_that_the_young_may_use_what_lies_free() -> None:
    stage = Stage(patience=10.0)
    stage.ask("q1", "a", 6)
    stage.ready("r1")
    stage.ask("q2", "b", 8)
    assert told(stage.ask("q3", "c", 3)) == ["Start r2 c"]


def test_at_most_max_loaded_runners_live() -> None:
    stage = Stage(max_loaded=1)
    stage.load("q1", "a", 1)
    assert told(stage.ask("q2", "b", 1)) == ["Stop r1 evicted"]
    assert told(stage.tell(RunnerExited("r1"))) == ["Start r2 b"]


def test_starts_are_not_all_at_once() -> None:
    stage = Stage(start_concurrency=1)
    stage.ask("q1", "a", 2)
    assert stage.ask("q2", "b", 2) == []
    assert told(stage.ready("r1")) == ["Admit q1 r1", "Start r2 b"]


# Context and load options.


def test_a_smaller_context_uses_what_is_loaded_and_a_larger_one_reloads_at_once_when_idle() -> None:
    stage = Stage()
    stage.load("q1", "a", context=4096)
    assert told(stage.ask("q2", "a", context=2048)) == ["Admit q2 r1"]
    stage.tell(Finished("q2"))
    assert told(stage.ask("q3", "a", context=8192)) == ["Stop r1 replaced"]
    assert told(stage.tell(RunnerExited("r1"))) == ["Start r2 a"]


def test_a_larger_context_beside_a_busy_runner_waits_and_blocks_nobody() -> None:
    """Ollama's pull request 14407: this was a deadlock."""
    stage = Stage(patience=10.0)
    stage.ask("q1", "a", 4)
    stage.ready("r1", parallel=2)
    assert stage.ask("q2", "a", 4, context=8192) == []
    assert told(stage.ask("q3", "a", 4)) == ["Admit q3 r1"]
    stage.tell(Finished("q3"))
    assert told(stage.after(10.0)) == ["Start r2 a"], "there is room beside the one that drains"
    assert stage.ask("q4", "a", 4) == [], "not at the one that drains"
    assert told(stage.ready("r2", parallel=2, context=8192)) == ["Admit q2 r2", "Admit q4 r2"]
    assert told(stage.tell(Finished("q1"))) == ["Stop r1 replaced"]


def test_other_load_options_need_another_runner_and_none_is_content_with_any() -> None:
    stage = Stage()
    stage.ask("q1", "a", options="gpu")
    stage.ready("r1")
    stage.tell(Finished("q1"))
    assert told(stage.ask("q2", "a")) == ["Admit q2 r1"]
    stage.tell(Finished("q2"))
    assert told(stage.ask("q3", "a", options="cpu")) == ["Stop r1 replaced"]


def test_who_made_a_runner_leave_goes_before_those_who_came_earlier_and_counted_on_it() -> None:
    stage = Stage(patience=10.0)
    stage.ask("q1", "a", options="gpu")
    stage.ready("r1")
    stage.ask("q2", "a", options="gpu")
    stage.ask("q3", "a", options="cpu")
    stage.after(10.0)
    assert told(stage.tell(Finished("q1"))) == ["Stop r1 replaced"]
    start = stage.tell(RunnerExited("r1"))[0]
    assert isinstance(start, Start)
    assert start.ticket.request_id == "q3"


def test_one_start_serves_who_asks_for_more_and_who_asks_for_less() -> None:
    stage = Stage(start_concurrency=1)
    stage.ask("q1", "b", 1)
    stage.ask("q2", "a", 4, context=2048)
    stage.ask("q3", "a", 5, context=8192)
    start = stage.ready("r1")[-1]
    assert isinstance(start, Start)
    assert start.ticket.request_id == "q3"
    assert told(stage.ready("r2", parallel=2, context=8192)) == ["Admit q2 r2", "Admit q3 r2"]


def test_a_runner_with_less_context_than_planned_does_not_start_over_and_over() -> None:
    stage = Stage()
    stage.ask("q1", "a", context=8192)
    stage.ask("q2", "a", context=2048)
    assert told(stage.ready("r1", context=4096)) == ["Refuse q1 LoadFailed", "Admit q2 r1"]


# Leaving memory.


@pytest.mark.parametrize(("keep_alive", "seconds"), [(None, 300.0), (20.0, 20.0), (0.0, 0.0)])
def test_the_last_request_says_how_long_the_model_stays(keep_alive: float | None, seconds: float) -> None:
    stage = Stage()
    stage.load("q1", "a")
    stage.ask("q2", "a", keep_alive=keep_alive)
    decisions = stage.tell(Finished("q2"))
    if seconds:
        assert decisions == []
        assert stage.wake_in() == seconds
        decisions = stage.after(seconds)
    assert told(decisions) == ["Stop r1 expired" if seconds else "Stop r1 unloaded"]


def test_for_ever_is_for_ever() -> None:
    stage = Stage()
    stage.ask("q1", "a", keep_alive=-1)
    stage.ready("r1")
    stage.tell(Finished("q1"))
    assert stage.wake_in() is None
    assert stage.after(1e9) == []


def test_a_request_that_meets_a_stop_gets_a_new_runner() -> None:
    """llama-swap's issue 946: this was a deadlock."""
    stage = Stage()
    stage.load("q1", "a")
    stage.after(300.0)
    assert stage.ask("q2", "a") == []
    assert told(stage.tell(RunnerExited("r1"))) == ["Start r2 a"]


def test_unload_stops_the_idle_at_once_and_the_busy_when_it_is_idle() -> None:
    stage = Stage()
    stage.load("q1", "a", 3)
    stage.ask("q2", "b", 3)
    stage.ready("r2")
    assert told(stage.tell(Unload("a")) + stage.tell(Unload("b"))) == ["Stop r1 unloaded"]
    assert told(stage.tell(Finished("q2"))) == ["Stop r2 unloaded"]


def test_unload_stops_a_load_that_nobody_waits_for() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    assert stage.tell(Unload("a")) == [], "q1 waits for it"
    stage.tell(Cancel("q1"))
    assert told(stage.tell(Unload("a"))) == ["Stop r1 unloaded"]


# Who cannot have it.


def test_too_large_for_the_machine_is_said_at_once() -> None:
    [refusal] = Stage().ask("q1", "a", 11)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, OutOfMemory)
    assert str(refusal.error) == "Model requires more system memory (11.0 GiB) than is available (10.0 GiB)"


def test_the_bound_of_the_queue_is_exact() -> None:
    stage = Stage(max_queue=2)
    stage.ask("q1", "a")
    stage.ready("r1")
    assert stage.ask("q2", "a") + stage.ask("q3", "a") == []
    [refusal] = stage.ask("q4", "a")
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, QueueFull)
    assert refusal.error.retry_after == 2.0
    stage.tell(Cancel("q2"))
    assert stage.ask("q5", "a") == []


def test_it_is_one_models_bound() -> None:
    stage = Stage(max_queue=1)
    stage.load("q1", "a", 4)
    stage.load("q2", "b", 4)
    for number, model in enumerate("abab"):
        stage.ask(f"w{number}", model, 4)
    assert told(stage.ask("x", "a", 4)) == ["Refuse x QueueFull"]
    assert told(stage.ask("y", "b", 4)) == ["Refuse y QueueFull"]
    assert stage.scheduler.snapshot().waiting == 2


# Several callers.


def test_callers_take_turns_at_a_model() -> None:
    stage = Stage()
    stage.load("q1", "a")
    for number in range(5):
        stage.ask(f"x{number}", "a", caller="x")
    stage.ask("y0", "a", caller="y")
    stage.ask("y1", "a", caller="y")
    order = [told(stage.tell(Finished(request))) for request in ("x0", "y0", "x1", "y1", "x2", "x3")]
    assert order == [[f"Admit {request} r1"] for request in ("y0", "x1", "y1", "x2", "x3", "x4")]


def test_a_weight_is_a_share() -> None:
    stage = Stage()
    stage.load("q1", "a")
    for number in range(12):
        stage.ask(f"x{number}", "a", caller="x")
        stage.ask(f"y{number}", "a", caller="y", weight=3)
    served, now = "", "x0"
    for _ in range(12):
        [decision] = stage.tell(Finished(now))
        assert isinstance(decision, Admit)
        now = decision.request_id
        served += now[0]
    assert served.count("y") == 9


def test_who_is_in_no_hurry_for_another_runner_does_not_lose_his_turn_to_those_behind_him() -> None:
    stage = Stage(patience=1000.0)
    stage.load("q0", "a")
    stage.ask("x0", "a", caller="x")
    stage.ask("x1", "a", caller="x", context=8192)
    stage.ask("x2", "a", caller="x")
    stage.ask("y0", "a", caller="y")
    assert [told(stage.tell(Finished(one))) for one in ("x0", "y0")] == [["Admit y0 r1"], ["Admit x2 r1"]]


def test_a_full_queue_takes_a_newcomer_for_the_newest_of_whoever_has_most_in_it() -> None:
    stage = Stage(max_queue=3)
    stage.load("q1", "a")
    for number in range(4):
        stage.ask(f"x{number}", "a", caller="x")
    assert told(stage.ask("x4", "a", caller="x")) == ["Refuse x4 QueueFull"]
    assert told(stage.ask("y0", "a", caller="y")) == ["Refuse x3 QueueFull"]
    assert told(stage.ask("y1", "a", caller="y")) == ["Refuse y1 QueueFull"], "they would push each other out in turns"
    assert stage.scheduler.snapshot().waiting == 3
    assert told(stage.tell(Finished("x0"))) == ["Admit y0 r1"]


def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    stage = Stage(max_wait=8.0)
    start = stage.ask("q0", "a")[0]
    assert isinstance(start, Start)
    for number in range(1, 4):
        assert stage.ask(f"q{number}", "a") == [], "nobody knows yet how long it will be"
    stage.ready(start.runner_id, parallel=2)
    stage.now = 4.0
    assert told(stage.tell(Finished("q0")) + stage.tell(Finished("q1"))) == ["Admit q2 r1", "Admit q3 r1"]
    for number in range(4, 8):  # each 2 s more: two places, 4 s an answer
        assert stage.ask(f"q{number}", "a") == []
    [refusal] = stage.ask("q8", "a")
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, QueueFull)
    assert str(refusal.error) == (
        "The wait for this model would be about 10.0 s, and the longest that this server promises is 8 s"
    )
    assert refusal.error.retry_after == 2.0
    assert stage.ask("y0", "a", caller="y") == [], "he would be next but one"


def test_retry_after_follows_what_requests_take() -> None:
    stage = Stage(max_queue=1)
    stage.ask("q0", "a")
    stage.ready("r1")
    for number in range(40):
        stage.now += 30.0
        stage.tell(Finished(f"q{number}"))
        stage.ask(f"q{number + 1}", "a")
    stage.ask("w", "a")
    [refusal] = stage.ask("x", "a")
    assert isinstance(refusal, Refuse)
    assert refusal.error.retry_after == pytest.approx(30.0, abs=1.0)


@pytest.mark.parametrize(
    ("loaded", "reason"),
    [("ready", "all places at the model were taken"), ("starting", "still loading"), ("other", "no room")],
)
def test_waiting_ends_at_the_deadline_with_the_reason(loaded: str, reason: str) -> None:
    stage = Stage(patience=1000.0)
    stage.ask("q1", "b" if loaded == "other" else "a")
    if loaded != "starting":
        stage.ready("r1")
    stage.ask("q2", "a", within=30.0)
    assert stage.wake_in() == 30.0
    [refusal] = stage.after(30.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, Unavailable)
    assert reason in str(refusal.error)


def test_less_memory_refuses_what_can_never_fit_and_sends_the_idle_away() -> None:
    stage = Stage(patience=1000.0)
    stage.ask("q1", "a", 5)
    stage.ready("r1")
    stage.load("q2", "b", 4)
    stage.ask("q3", "c", 9)
    assert told(stage.tell(LimitsChanged(Limits(memory=6 * GIB, patience=1000.0)))) == [
        "Refuse q3 OutOfMemory",
        "Stop r2 memory pressure",
    ]


def test_the_last_runner_stays_though_it_takes_more_than_planned() -> None:
    stage = Stage()
    stage.ask("q1", "a", 9)
    stage.ready("r1", memory=11)
    assert stage.tell(Finished("q1")) == []


# Cancelling.


def test_who_leaves_the_queue_is_forgotten() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    stage.ready("r1")
    stage.ask("q2", "a")
    stage.tell(Cancel("q2"))
    assert stage.tell(Finished("q1")) == []
    assert stage.scheduler.snapshot().waiting == 0


def test_who_leaves_while_admitted_frees_the_place_at_once() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    stage.ready("r1")
    stage.ask("q2", "a")
    assert told(stage.tell(Cancel("q1"))) == ["Admit q2 r1"]
    assert stage.tell(Finished("q1")) == [], "late, and it changes nothing"


def test_a_load_that_nobody_waits_for_is_finished_and_kept() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    assert stage.tell(Cancel("q1")) == []
    assert stage.ready("r1") == []
    assert told(stage.ask("q2", "a")) == ["Admit q2 r1"]


def test_but_makes_way_like_an_idle_runner() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    stage.tell(Cancel("q1"))
    assert told(stage.ask("q2", "b")) == ["Stop r1 evicted"]


# Failing.


def test_a_failed_load_is_the_error_of_all_who_waited_for_it_and_the_next_request_tries_again() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    stage.ask("q2", "a")
    error = LoadFailed("bad magic")
    assert stage.tell(RunnerFailed("r1", error)) == [Refuse("q1", error), Refuse("q2", error)]
    assert told(stage.ask("q3", "a")) == ["Start r2 a"]


def test_a_model_that_keeps_failing_is_started_ever_less_often() -> None:
    stage = Stage()
    pauses = []
    for number in range(6):
        decisions = stage.ask(f"q{number}", "a")
        pause = 0.0
        if not decisions:
            pause = stage.wake_in() or 0.0
            decisions = stage.after(pause)
        pauses.append(pause)
        assert told(decisions) == [f"Start r{number + 1} a"]
        stage.tell(RunnerFailed(f"r{number + 1}", LoadFailed("bad magic")))
    assert pauses == [0.0, 0.0, 0.5, 1.0, 2.0, 4.0]


def test_failures_far_apart_are_not_a_series() -> None:
    stage = Stage()
    for number in range(4):
        assert told(stage.ask(f"q{number}", "a")) == [f"Start r{number + 1} a"]
        stage.tell(RunnerFailed(f"r{number + 1}", LoadFailed("bad magic")))
        stage.now += 61.0


def test_a_runner_that_dies_is_replaced_for_those_who_still_wait() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    stage.ready("r1")
    stage.ask("q2", "a")
    assert told(stage.tell(RunnerFailed("r1", RunnerDied("SIGSEGV")))) == ["Start r2 a"]
    assert stage.tell(Finished("q1")) == []
    assert told(stage.ready("r2")) == ["Admit q2 r2"]


def test_an_exit_that_nobody_asked_for_is_a_death() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    assert told(stage.tell(RunnerExited("r1"))) == ["Refuse q1 RunnerDied"]


def test_a_load_that_takes_too_long_is_given_up_and_counts_until_it_is_gone() -> None:
    stage = Stage(load_timeout=60.0)
    stage.ask("q1", "a")
    assert stage.wake_in() == 60.0
    assert told(stage.after(60.0)) == ["Refuse q1 LoadFailed", "Stop r1 load timeout"]
    assert stage.ask("q2", "a") == []
    assert stage.ready("r1") == [], "too late"
    assert told(stage.tell(RunnerFailed("r1", LoadFailed("killed")))) == ["Start r2 a"]


# The end.


def test_shutdown_lets_the_admitted_finish_and_nobody_else_begin() -> None:
    stage = Stage()
    stage.load("q1", "a", 2)
    stage.ask("q2", "b", 2)
    stage.ready("r2")
    stage.ask("q3", "b", 2)
    stage.ask("q4", "c", 2)
    assert sorted(told(stage.tell(Drain()))) == [
        "Refuse q3 ShuttingDown",
        "Refuse q4 ShuttingDown",
        "Stop r1 shutting down",
        "Stop r3 shutting down",
    ]
    [refusal] = stage.ask("q5", "b", 2)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, ShuttingDown)
    assert told(stage.tell(Finished("q2"))) == ["Stop r2 shutting down"]
    for runner_id in ("r1", "r2", "r3"):
        stage.tell(RunnerExited(runner_id))
    assert stage.scheduler.snapshot().runners == ()


def test_late_reports_change_nothing() -> None:
    stage = Stage()
    late: list[Event] = [
        Finished("x"),
        Cancel("x"),
        RunnerExited("x"),
        RunnerFailed("x", LoadFailed("x")),
        RunnerReady("x", 1, 1),
        Tick(),
    ]
    assert [stage.tell(event) for event in late] == [[]] * len(late)


def test_a_request_id_in_use_is_not_taken_twice() -> None:
    stage = Stage()
    stage.ask("q1", "a")
    with pytest.raises(ValueError, match="q1"):
        stage.ask("q1", "b")


def test_what_can_be_seen_from_outside() -> None:
    stage = Stage()
    stage.ask("q1", "a", keep_alive=20.0)
    stage.ask("q2", "a")
    stage.ready("r1", context=8192, memory=7)
    [view] = stage.scheduler.snapshot().runners
    assert (view.state, view.busy, view.queued, view.memory, view.context) == (State.READY, 1, 1, 7 * GIB, 8192)
    assert view.expires_at is None
    stage.tell(Cancel("q2"))
    stage.tell(Finished("q1"))
    [view] = stage.scheduler.snapshot().runners
    assert view.expires_at == 20.0
