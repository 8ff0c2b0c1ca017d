"""How fast, how often and how long: the numbers of every transfer, each with its reason.

The rule: waits grow, have an end, and are never the same twice.
"""

from __future__ import annotations

import random

from msgspec import Struct

from localmodels.core.errors import LocalModelsError

MIB = 2**20


class Pace(Struct, frozen=True):
    """The numbers, in bytes and seconds.

    Attributes:
        part: what one request asks for. A request costs one to three round trips, say 0.3 s across an ocean, which
            others at work hide; 64 MiB take 0.6 s of a connection of 100 MB/s. Ollama cuts a model into sixteen of 100
            MB to 1 GB; with smaller ones no slow connection is left alone with a gigabyte at the end, and the bytes
            arrive nearly in order, so that whoever hashes them can follow while they are still in memory.
        at_once: requests for one blob at a time. Content networks slow down single connections; above eight a home line
            is full and a disk only seeks more.
        tries: attempts of one part in a row that brought less than ``floor``, while the whole blob stood still. As many
            as Ollama's.
        first_wait, longest_wait: before the second of them, doubled with each, and the most.
        longest_retry_after: what is believed of a registry that says when to come back.
        patience: of a short request, from its first attempt to the beginning of its last. Somebody waits and sees
            nothing meanwhile; a registry that is busy for longer is better asked again later, by him.
        stall, floor: an attempt that brings less than ``floor`` bytes in ``stall`` seconds is given up: silence, and a
            trickle of one byte a second too. Slower than 500 bytes a second no model ever arrives.
    """

    part: int = 64 * MIB
    at_once: int = 8
    tries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 15.0
    longest_retry_after: float = 60.0
    patience: float = 60.0
    stall: float = 30.0
    floor: int = 16 * 1024

    def wait(self, tries: int, chance: random.Random) -> float:
        """Seconds before the next attempt after so many failed ones.

        Half to one and a half times the rule's, so that parts that were cut together do not come back together.
        """
        if tries <= 0:
            return 0.0
        doubled: float = min(self.first_wait * 2.0 ** min(tries - 1, 30), self.longest_wait)
        return doubled * (0.5 + chance.random())

    def wait_after(self, error: LocalModelsError, tries: int, chance: random.Random) -> float:
        """The same, or as long as the registry asks for with its error, within reason."""
        return max(self.wait(tries, chance), min(error.retry_after or 0.0, self.longest_retry_after))
