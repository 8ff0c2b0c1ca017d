"""``python -m tests.proofs [PROOF …]``: the long forms. Minutes, and a quiet machine for what is told by the clock."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping

import uvloop
from tests.proofs import chunks, departures, ending, overload, restarts, secrets, slow, streams, turns
from tests.proofs.claims import Claim

PROOFS: Mapping[str, Callable[[], Awaitable[list[Claim]]]] = {
    "streams": streams.proof,
    "departures": departures.proof,
    "overload": overload.proof,
    "slow": slow.proof,
    "turns": turns.proof,
    "ending": ending.proof,
    "restarts": restarts.proof,
    "secrets": secrets.proof,
    "chunks": chunks.proof,
}


def main() -> int:
    """Exit status 1 when a claim did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs", description="What many clients at once can do.")
    parser.add_argument("proofs", nargs="*", metavar="PROOF", help=f"any of {', '.join(PROOFS)}; all without one")
    asked = parser.parse_args().proofs
    if unknown := [name for name in asked if name not in PROOFS]:
        parser.error(f"there is no proof {unknown[0]}; there are {', '.join(PROOFS)}")
    return uvloop.run(proven(asked or list(PROOFS)))  # the clients take as little of the machine as they can


async def proven(names: list[str]) -> int:
    """One after the other."""
    missed = 0
    for name in names:
        for claim in await PROOFS[name]():
            print(f"{name:<11} {claim}", flush=True)
            missed += not claim.holds
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
