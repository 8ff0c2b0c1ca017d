"""The figures of routing: what ``auto`` makes of a fleet, beside what the usual policies make of the same one.

All policies see the same conversations and have the same places; only the order of hosts is theirs. A request that is
refused counts as a minute, after which its caller comes back. Everything is decided by the seed: the figures are the
same on every machine. What is promised whatever the policy is looked at in all runs together: nobody has more than his
places, and nobody waits for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from benchmarks.fleet.machine import Request
from benchmarks.fleet.simulation import PATIENCE, Policy, Run, Workload, at_random, by_name
from benchmarks.fleet.workloads import WORKLOADS
from benchmarks.report import Figure

OURS = "auto"
# Each anew for every run: who chooses by chance goes on where he was.
POLICIES: Mapping[str, Callable[[], Policy]] = {
    OURS: lambda: by_name(OURS),
    "round_robin": lambda: by_name("round_robin"),
    "least_busy": lambda: by_name("least_busy"),
    "random": at_random,
}
SAME = 1.05  # where a prompt's place makes no difference, policies differ by chance
EVENTS, RATE = 1e6, 1e4  # what the promises are held against: events in all, and requests a second
WARM_UP = 0.2  # of all requests, while caches fill and models are loaded for the first time


@dataclass(frozen=True)
class Outcome:
    """What became of a workload under one policy.

    Attributes:
        p50, p99: seconds to the first token.
        hits: of all tokens of prompts, the share that was known.
        fairness: Jain's index of the callers: 1 when each has what he asked for or an equal share, 1/n when one has
            all.
        refused: the share of requests.
        loads: of models, for a hundred requests.
        events: arrivals, starts and ends of requests.
        over: requests that a host has had beyond its ``max_concurrent``, at worst.
        longest: seconds that somebody has waited for a place, at worst.
        busiest: requests that came in the busiest second.
    """

    p50: float
    p99: float
    hits: float
    fairness: float
    refused: float
    loads: float
    events: int
    over: int
    longest: float
    busiest: int


ROWS: Sequence[tuple[str, str, Callable[[Outcome], float]]] = (
    ("first token, median", "{:.3f} s", lambda one: one.p50),
    ("first token, 99 of 100", "{:.2f} s", lambda one: one.p99),
    ("known tokens", "{:.1%}", lambda one: one.hits),
    ("fairness (Jain)", "{:.3f}", lambda one: one.fairness),
    ("refused", "{:.1%}", lambda one: one.refused),
    ("loads for 100 requests", "{:.1f}", lambda one: one.loads),
)


async def figures(workloads: Sequence[Workload] = WORKLOADS) -> list[Figure]:
    """Of each workload the first token, beside the best of the others; of all what is promised. Prints the tables."""
    found: list[Figure] = []
    outcomes_of: list[tuple[Workload, Mapping[str, Outcome]]] = []
    for workload in workloads:
        outcomes = {name: await asyncio.to_thread(_outcome, workload, made()) for name, made in POLICIES.items()}
        print(table(workload, outcomes), flush=True)
        found += _figures(workload, outcomes)
        outcomes_of.append((workload, outcomes))
    largest, of_largest = max(outcomes_of, key=lambda one: hosts_of(one[0]))
    every = [outcome for _, outcomes in outcomes_of for outcome in outcomes.values()]
    return [*found, *promises(every), rate(largest, of_largest[OURS])]


def promises(every: Sequence[Outcome]) -> list[Figure]:
    """What holds under all policies: of all runs together."""
    events = sum(one.events for one in every)
    over, longest = max(one.over for one in every), max(one.longest for one in every)
    what = "arrivals, starts and ends of requests"
    return [
        Figure("all runs: events", events / 1e6, "million", f"≥ {EVENTS / 1e6:g}", events >= EVENTS, what),
        Figure("all runs: places exceeded", over, "", "0", over == 0, "at one host, at worst"),
        Figure("all runs: longest wait for a place", longest, "s", f"≤ {PATIENCE:g}", longest <= PATIENCE),
    ]


def rate(workload: Workload, outcome: Outcome) -> Figure:
    """How much comes at once."""
    came = outcome.busiest
    name, note = f"{workload.name}: requests a second", f"{hosts_of(workload):,} hosts, the busiest second, {OURS}"
    return Figure(name, came / 1e3, "thousand", f"≥ {RATE / 1e3:g}", came >= RATE, note)


def hosts_of(workload: Workload) -> int:
    """How many it has."""
    return sum(kind.count for kind in workload.machines)


def table(workload: Workload, outcomes: Mapping[str, Outcome]) -> str:
    """In Markdown: what ``auto`` did, and its ratio to what the others did."""
    ours, others = outcomes[OURS], [name for name in outcomes if name != OURS]
    rows = [
        (name, form.format(value(ours)), [_ratio(value(ours), value(outcomes[other])) for other in others])
        for name, form, value in ROWS
    ]
    lines = [
        f"\n**{workload.name}**: {hosts_of(workload)} hosts, {workload.requests:,} requests",
        "",
        f"| | auto | {' | '.join(f'auto : {name}' for name in others)} |",
        "|---" * (2 + len(others)) + "|",
        *(f"| {name} | {value} | {' | '.join(ratios)} |" for name, value, ratios in rows),
    ]
    return "\n".join(lines)


def outcome_of(run: Run) -> Outcome:
    """Of a run that is over."""
    asked = run.asked[int(len(run.asked) * WARM_UP) :]
    crowd = run.workload.crowd
    firsts = sorted(PATIENCE if one.refused else one.first - one.arrived for one in asked if one.caller != crowd)
    served = [one for one in asked if not one.refused]
    return Outcome(
        p50=firsts[len(firsts) // 2],
        p99=firsts[len(firsts) * 99 // 100],
        hits=sum(one.cached for one in served) / max(1, sum(one.tokens for one in served)),
        fairness=fairness(asked),
        refused=1 - len(served) / len(asked),
        loads=100 * run.loads / len(run.asked),
        events=run.events,
        over=run.over,
        longest=run.longest,
        busiest=busiest([one.arrived for one in run.asked]),
    )


def busiest(moments: Sequence[float]) -> int:
    """The most of these moments, which are in order, that lie within one second."""
    first = most = 0
    for number, moment in enumerate(moments):
        while moments[first] <= moment - 1:
            first += 1
        most = max(most, number + 1 - first)
    return most


def fairness(asked: Sequence[Request]) -> float:
    """Jain's index of how much each caller got of his fair share, counted in requests.

    Fair is what is called max-min: nobody gets more than he asked for, and who wants more than the others gets what
    they leave, in equal parts.
    """
    wanted = Counter(one.caller for one in asked)
    got = Counter(one.caller for one in asked if not one.refused)
    shares = fair_shares(wanted, got.total())
    parts = [got[caller] / share if share else 1.0 for caller, share in shares.items()]
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts) or inf)


def fair_shares(wanted: Mapping[str, int], total: float) -> dict[str, float]:
    """Max-min shares of a total."""
    shares: dict[str, float] = {}
    for caller, want in sorted(wanted.items(), key=lambda one: one[1]):
        shares[caller] = min(want, total / (len(wanted) - len(shares)))
        total -= shares[caller]
    return shares


def _outcome(workload: Workload, policy: Policy) -> Outcome:
    return outcome_of(Run(workload, policy).go())


def _figures(workload: Workload, outcomes: Mapping[str, Outcome]) -> list[Figure]:
    ours, others = outcomes[OURS], [outcome for name, outcome in outcomes.items() if name != OURS]
    ratios = {
        "first token, median": ours.p50 / min(other.p50 for other in others),
        "first token, 99 of 100": ours.p99 / min(other.p99 for other in others),
    }
    return [
        Figure(f"{workload.name}: {name}, auto : best other", ratio, "", f"≤ {SAME}", ratio <= SAME)
        for name, ratio in ratios.items()
    ]


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.3g}" if theirs else "–"
