"""``python -m tests.fleet [PROOF …] [--seed N]``: the long forms of what a fleet must show. Minutes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping

import uvloop
from tests.fleet import cuts, failover, flaps, gateways, prefix, vllm
from tests.proofs.claims import Claim

PROOFS: Mapping[str, Callable[[int], Awaitable[list[Claim]]]] = {
    "failover": lambda seed: failover.proof(seed=seed),
    "gateways": lambda _: gateways.proof(),
    "cuts": lambda seed: cuts.proof(seed=seed),
    "flaps": lambda seed: flaps.proof(seed=seed),
    "prefix": lambda seed: prefix.proof(seed=seed),
    "vllm": lambda _: vllm.proof(),
}
# Those that run without further things.
_USUAL = tuple(name for name in PROOFS if name != "vllm" or vllm.PYTHON)


def main() -> int:
    """Exit status 1 when a claim did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description="What many servers behind one can do.")
    parser.add_argument(
        "proofs",
        nargs="*",
        metavar="PROOF",
        help=f"any of {', '.join(PROOFS)}; all without one; vllm only where"
        " LOCALMODELS_TEST_VLLM names a Python that has it",
    )
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if unknown := [name for name in asked.proofs if name not in PROOFS]:
        parser.error(f"there is no proof {unknown[0]}; there are {', '.join(PROOFS)}")
    if "vllm" in asked.proofs and not vllm.PYTHON:
        parser.error("vllm: LOCALMODELS_TEST_VLLM has to name a Python that has it")
    return uvloop.run(proven(asked.proofs or list(_USUAL), asked.seed))


async def proven(names: list[str], seed: int) -> int:
    """One after the other."""
    missed = 0
    for name in names:
        for claim in await PROOFS[name](seed):
            print(f"{name:<10} {claim}", flush=True)
            missed += not claim.holds
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
