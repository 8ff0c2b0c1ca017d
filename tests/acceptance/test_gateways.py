"""Two gateways on one database, as processes: the short form of ``python -m tests.fleet gateways``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.fleet import gateways
from tests.postgres import Postgres
from tests.proofs.claims import Claim, broken


async def found(folder: Path, postgres: Postgres) -> list[Claim]:
    return [claim async for claim in gateways.claims(folder, postgres, gateways.SHORT)]


def test_what_one_does_the_other_knows_and_one_may_die(tmp_path: Path, postgres: Postgres) -> None:
    claims = asyncio.run(found(tmp_path, postgres))
    print(*claims, sep="\n")
    assert broken(claims) == []
