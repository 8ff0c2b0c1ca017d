"""The short forms of what a fleet must show. ``python -m tests.fleet`` has the long ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from tests.fleet import cuts, flaps, prefix
from tests.proofs.claims import Claim, broken

LONGEST = 240.0  # seconds; only a test that hangs ever sees it


def shown(proof: Awaitable[Sequence[Claim]]) -> list[str]:
    """What did not hold."""

    async def bounded() -> list[str]:
        async with asyncio.timeout(LONGEST):
            return broken(await proof)

    return asyncio.run(bounded())


def test_streams_that_are_cut_say_so() -> None:
    assert shown(cuts.proof(84)) == []


def test_a_server_that_comes_and_goes_is_shown_as_it_is_and_used_again() -> None:
    assert shown(flaps.proof(real=2, quick=4, looks=1)) == []


def test_conversations_stay_where_their_prompts_are() -> None:
    assert shown(prefix.proof(conversations=8, turns=5)) == []
