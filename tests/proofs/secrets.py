"""Looking a key up tells nothing of its text by the time that it takes (threat V-27)."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, variance
from time import perf_counter_ns

from tests.proofs.claims import Claim, timed

from localmodels.core.access import Wish
from localmodels.flows.access.keys import Keyring, make_key

# As dudect has it (Reparaz, Balasch, Verbauwhede: DATE 2017): beyond it two times are not the same.
MOST_T = 4.5
# Comparing byte by byte would take 40 ns and more for the 43 characters of a key.
LEAST_LEAK = 15.0


async def proof(looks: int = 100_000) -> list[Claim]:
    """Welch's t between keys that share nothing with ours, and those that share all but the last character."""
    made, text = make_key(Wish("bob"), 0)
    ring, plain = Keyring(lambda: 0), text.reveal()
    ring.take(1, (made,))
    near, far = plain[:-1] + ("A" if plain[-1] != "A" else "B"), "lm-" + "~" * 43
    times: dict[str, list[int]] = {near: [], far: []}
    for number in range(looks):
        asked = near if number % 2 else far
        begun = perf_counter_ns()
        ring.caller(asked)
        times[asked].append(perf_counter_ns() - begun)
    t, difference = welch(times)
    return [
        timed(
            "a nearly right key takes as long as any other",
            t < MOST_T or difference < LEAST_LEAK,
            f"t {t:.1f}, {difference:.1f} ns apart",
        )
    ]


def welch(times: Mapping[str, list[int]]) -> tuple[float, float]:
    """Welch's t of two sets, without their slowest tenth, which is what else the machine did; and how far they are."""
    kept = [sorted(one)[: len(one) * 9 // 10] for one in times.values()]
    spread = sum(variance(one) / len(one) for one in kept)
    difference = abs(fmean(kept[0]) - fmean(kept[1]))
    return difference / spread**0.5, difference
