"""The bars: what rises is seen, and what only trembles is not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from tests.proofs.claims import broken
from tests.soak.claims import MIB, claims
from tests.soak.samples import Memory, Sample, figures
from tests.soak.soak import Soaked
from tests.soak.tally import Tally

PAGE = b"""# HELP localmodels_places_busy of them
localmodels_places_busy{model="a",server="b c"} 1.0
localmodels_places_busy{model="d"} 2
process_open_fds 9
"""


def seen(of: Callable[[float], Sample], *, minutes: float = 60.0) -> Soaked:
    """A soak with such a sample every five seconds, and one before and one after."""
    under_load = tuple(of(5.0 * number) for number in range(1, round(12 * minutes)))
    return Soaked(Tally(), (calm(0.0), *under_load, calm(60 * minutes + 9)), minutes, 0, (), 0.0)


def calm(at: float) -> Sample:
    """As it should be: a tenth of a MiB more or less, a descriptor or two."""
    draw = random.Random(round(at))
    rss = round((80 + draw.uniform(-0.1, 0.1)) * MIB)
    return Sample(at, Memory(rss, rss, rss), Memory(), 40 + draw.randrange(-5, 6), 5, 1, 12, 10**6, 0, 6700)


def swollen(at: float, by: float) -> Sample:
    """The same with so many bytes an hour more."""
    sample = calm(at)
    return replace(sample, memory=replace(sample.memory, rss=sample.memory.rss + round(by * at / 3600)))


@pytest.mark.parametrize("minutes", [5.0, 60.0])
def test_a_server_that_trembles_holds(minutes: float) -> None:
    assert broken(claims(seen(calm, minutes=minutes))) == []


def test_an_hour_sees_two_megabytes_and_five_minutes_what_would_be_two_hundred() -> None:
    assert broken(claims(seen(lambda at: swollen(at, 0.5e6)))) == []
    assert len(broken(claims(seen(lambda at: swollen(at, 2e6))))) == 1
    assert len(broken(claims(seen(lambda at: swollen(at, 200e6), minutes=5.0)))) == 1


@pytest.mark.parametrize("field", ["descriptors", "threads", "children", "files", "temporary", "series"])
def test_whatever_is_counted_may_not_rise(field: str) -> None:
    def rising(at: float) -> Sample:
        sample = calm(at)
        return replace(sample, **{field: getattr(sample, field) + round(at)})

    (claim,) = broken(claims(seen(rising)))
    assert "do not rise" in claim


def test_what_is_left_behind_and_what_nobody_expected_is_told() -> None:
    sound = seen(calm)
    last = replace(sound.samples[-1], descriptors=90, children=2, figures={"localmodels_places_busy": 1.0})
    tally = Tally(unexpected=["a: b"], many_unexpected=1, broken=["c"])
    left = replace(sound, tally=tally, samples=(*sound.samples[:-1], last), under_way=1, traces=("Traceback",))
    assert len(broken(claims(left))) == 7


def test_a_page_of_metrics_is_summed_over_its_labels() -> None:
    assert figures(PAGE) == (3, {"localmodels_places_busy": 3.0})
