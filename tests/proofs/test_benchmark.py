"""The gateway's benchmark, in small: its parts understand each other, and what is wrong is no figure."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from benchmarks.gateway import sides
from benchmarks.gateway.cpu import Cores, share_out
from benchmarks.gateway.load import Result
from benchmarks.gateway.measure import Bench, Taken, added, by_the_clock, cpu_ratio, load, per_core
from benchmarks.gateway.mock import paused
from tests.awaited import awaited

CORES = frozenset(os.sched_getaffinity(0))


@awaited
async def test_whole_answers_and_streams_come_through_the_relay() -> None:
    async with sides.mock(CORES, pieces=7) as mock, sides.relay(CORES, mock) as relay, load(CORES) as asking:
        whole = await asking.ask(relay, connections=2, seconds=0.2)
        streams = await asking.ask(relay, connections=2, seconds=0.2, pieces=7)
    assert whole.result.requests == len(whole.result.latencies) > 0
    assert streams.result.pieces == 7 * streams.result.requests > 0


@awaited
async def test_a_wrong_answer_is_an_error_and_no_figure() -> None:
    async with sides.mock(CORES, pieces=7) as mock, load(CORES) as asking:
        with pytest.raises(RuntimeError, match="7 pieces"):
            await asking.ask(mock, connections=2, seconds=0.2, pieces=8)
        with pytest.raises(RuntimeError, match="404"):
            await asking.ask(replace(mock, path="/nowhere"), connections=2, seconds=0.2)
        assert (await asking.ask(mock, connections=1, seconds=0.1)).result.requests, "and the load goes on"


def taken(cpu: float, requests: int = 100, seconds: float = 1.0, latency: float = 0.001) -> Taken:
    """A round."""
    return Taken(Result(requests=requests, seconds=seconds, latencies=(latency,) * requests), cpu)


def test_figures_are_medians_of_the_rounds_ratios() -> None:
    rounds = {
        "ours": [taken(0.1), taken(0.2), taken(0.1)],
        "relay": [taken(0.2), taken(0.2), taken(0.2)],
        "litellm": [taken(4.0), taken(4.0), taken(4.0)],
        "nginx": [taken(0.01, requests=200)] * 3,
        "mock": [taken(0.0, latency=0.0005)] * 3,
    }
    assert cpu_ratio("", rounds, "relay", bar=1.3).value == pytest.approx(0.5)
    assert per_core("", rounds, "litellm", bar=30, note="").value == pytest.approx(40)
    assert by_the_clock("", rounds, bar=0.7).met is False
    assert by_the_clock("", rounds, bar=None).met is True
    assert added("", rounds, 0.5, bar=0.5).value == pytest.approx(0.5)


@awaited
async def test_what_is_not_here_is_neither_met_nor_missed() -> None:
    async with sides.mock(CORES) as mock, load(CORES) as asking:
        bench = Bench(mock, asking, Cores(CORES, CORES))
        bench.absent["nginx"] = "nginx is not here"
        figure = bench.missing("streams", "", "≥ 0.7", ("ours", "nginx"))
    assert figure is not None
    assert (figure.met, figure.value, figure.note) == (None, None, "nginx is not here")
    assert "not measured" in figure.row
    assert bench.missing("whole", "", "", ("ours",)) is None


def test_what_is_measured_has_a_core_for_itself() -> None:
    cores = share_out()
    assert cores.apart == (len(CORES) > 1)
    assert cores.measured | cores.others == CORES


def test_uneven_streams_are_as_long_on_average() -> None:
    pause = paused(0.02, 0.2)
    pauses = [pause(number) for number in range(1, 101)]
    assert sum(pauses) / 100 == pytest.approx(0.02, rel=0.01)
    assert min(pauses) == pytest.approx(0.016, rel=0.05)
    assert max(pauses) == pytest.approx(0.024, rel=0.05)
    assert {paused(0.02, 0.0)(number) for number in range(10)} == {0.02}
