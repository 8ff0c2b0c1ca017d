"""What a soak shows: bounds for everything that could grow, and why each is what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tests.proofs.claims import Claim, share_of, timed
from tests.soak.samples import Sample
from tests.soak.soak import Soaked
from tests.soak.trends import fifth, growth, slope, thirds

MB = 1e6
MIB = 2**20
HOUR = 3600.0
LONG = 30.0  # minutes of load from which on a slope an hour is no guess
MOST_SLOPE = MB  # bytes an hour
# A slope of minutes says nothing of an hour, since an allocator takes what it takes in steps of some MiB. From the
# second fifth to the last of five minutes are 180 s and five thousand requests: this is 1.5 KiB that each would keep.
MOST_GROWTH = 8 * MIB
MOST_DRIFT = 0.1

# What must not rise, and by how much its median may: a stream more or fewer under way at the moment of a sample.
FLAT: Mapping[str, tuple[Callable[[Sample], float], float]] = {
    "descriptors": (lambda sample: sample.descriptors, 6),
    # Those of the pool (at most 64) begin when so many are needed in one moment, which on a busy machine comes late.
    "threads": (lambda sample: sample.threads, 12),
    "processes below it": (lambda sample: sample.children, 0),
    "files in its home": (lambda sample: sample.files, 3),
    "temporary files": (lambda sample: sample.temporary, 1),
    # Twenty histograms of some seven thousand series: the ends of answers that are told in two ways come late.
    "series of metrics": (lambda sample: sample.series, 350),
}


def claims(seen: Soaked) -> list[Claim]:
    """All of them."""
    return [*answers(seen), *memory(seen), *flat(seen), *ended(seen), drift(seen)]


def answers(seen: Soaked) -> list[Claim]:
    """What clients heard."""
    tally = seen.tally
    return [
        Claim("every answer is one that was expected", not tally.unexpected, f"{tally.many_unexpected} are not"),
        Claim("every visit comes to its end", not tally.broken, f"{len(tally.broken)} did not"),
        Claim("no trace in the log", not seen.traces, f"{len(seen.traces)}"),
    ]


def memory(seen: Soaked) -> list[Claim]:
    """The server's; that of its runners, which come and go, is told."""
    steady = seen.steady
    rises = {
        name: HOUR * slope([(sample.at, getattr(sample.memory, name)) for sample in steady])
        for name in ("rss", "pss", "uss")
    }
    told = ", ".join(f"{name} {rise / MB:+.2f}" for name, rise in rises.items()) + " MB an hour"
    grew = growth([sample.memory.rss for sample in seen.samples[1:-1]])
    after = f"rss {steady[0].memory.rss / MIB:.1f} to {steady[-1].memory.rss / MIB:.1f} MiB after warm-up"
    if seen.minutes >= LONG:
        bar = Claim("the server's memory does not rise", rises["rss"] < MOST_SLOPE, f"{told}; {after}")
    else:
        bar = Claim("the server's memory does not grow", grew <= MOST_GROWTH, f"{grew / MIB:+.2f} MiB; {told}; {after}")
    below = [sample.runners.pss for sample in steady]
    shown = f"{fifth(below, 0) / MIB:.1f} to {fifth(below, 4) / MIB:.1f} MiB"
    return [bar, timed("its runners' memory, for the record", True, shown)]


def flat(seen: Soaked) -> list[Claim]:
    """What is counted."""
    made = []
    for what, (of, most) in FLAT.items():
        values = [of(sample) for sample in seen.steady]
        told = f"{fifth(values, 0):g} to {fifth(values, 4):g}, {max(values):g} at most"
        made.append(Claim(f"{what} do not rise", fifth(values, 4) - fifth(values, 0) <= most, told))
    return made


def ended(seen: Soaked) -> list[Claim]:
    """What is left when everybody has gone."""
    first, last = seen.samples[0], seen.samples[-1]
    waiting = {name: last.figures.get(name, 0.0) for name in ("localmodels_queue_waiting", "localmodels_places_busy")}
    return [
        Claim("nothing goes on at the server behind", seen.under_way == 0, f"{seen.under_way}"),
        Claim("no place is taken and nobody waits", not any(waiting.values()), str(waiting)),
        Claim("no descriptors are left", last.descriptors <= first.descriptors + 8, two(first, last, "descriptors")),
        Claim("no processes are left", last.children <= first.children, two(first, last, "children")),
        Claim("no temporary files are left", last.temporary <= first.temporary, two(first, last, "temporary")),
    ]


def two(first: Sample, last: Sample, name: str) -> str:
    """A figure before and after."""
    return f"{getattr(first, name)} before, {getattr(last, name)} after"


def drift(seen: Soaked) -> Claim:
    """The slowest hundredth of one kind of request, early and late; told, since others use the machine."""
    parts: Sequence[Sequence[float]] = thirds([took for _, took in sorted(seen.tally.took)])
    if not all(parts):
        return timed("times do not drift", True, "too few")
    slow = [share_of(part, 0.99) for part in parts]
    told = ", ".join(f"{1e3 * one:.1f}" for one in slow) + " ms in 99 of 100, by thirds"
    return timed("times do not drift", slow[-1] <= (1 + MOST_DRIFT) * slow[0], told)
