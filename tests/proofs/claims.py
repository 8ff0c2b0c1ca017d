"""What a proof comes to: sentences that held or did not."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from msgspec import Struct


class Claim(Struct, frozen=True):
    """One sentence.

    Attributes:
        told: what was seen, in figures.
        by_the_clock: does it hold only where nobody else uses the machine? Short forms print such claims and no more.
    """

    what: str
    holds: bool
    told: str = ""
    by_the_clock: bool = False

    def __str__(self) -> str:
        return f"{'ok  ' if self.holds else 'MISS'} {self.what}: {self.told}"


def timed(what: str, holds: bool, told: str) -> Claim:
    """One that a busy machine may break."""
    return Claim(what, holds, told, by_the_clock=True)


def broken(claims: Sequence[Claim]) -> list[str]:
    """Those that did not hold, whatever else the machine did."""
    return [str(claim) for claim in claims if not claim.holds and not claim.by_the_clock]


def share_of(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; without any there is none that it may not."""
    ordered = sorted(values) or [inf]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
