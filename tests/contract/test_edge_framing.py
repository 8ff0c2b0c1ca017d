"""The corpus of hostile requests, over real connections: what one hears at an address, whoever answers there."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.contract.edge import LOOPS, run, serving
from tests.hostile.framing import CASES, Case, echo
from tests.unit.server.edge.test_framing import answers

AT_ONCE = 16


@pytest.mark.parametrize("pieces", [0, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("loop", LOOPS)
def test_every_case_is_heard_as_it_should_be(loop: str, pieces: int) -> None:
    async def main() -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        async with serving(echo) as served:

            async def one(case: Case) -> tuple[str, list[str | int]]:
                async with gate:
                    return case.name, answers(await heard(served.port, case, pieces))

            told = await asyncio.gather(*map(one, CASES))
        assert told == [(case.name, list(case.heard)) for case in CASES]

    run(loop, main())


async def heard(port: int, case: Case, pieces: int) -> bytes:
    """All answers: as many as are due, or all until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = pieces or len(case.sent)
    said = b""
    try:
        with suppress(ConnectionError):  # it is closed while the rest is sent
            for start in range(0, len(case.sent), size):
                writer.write(case.sent[start : start + size])
                await writer.drain()
                if pieces:
                    await asyncio.sleep(0)
        while len(done := answers_so_far(said)) < len(case.heard) and (data := await reader.read(65536)):
            said += data
        assert len(done) == len(case.heard)
    finally:
        writer.close()
    return said


def answers_so_far(said: bytes) -> list[str | int]:
    """Those that are whole."""
    try:
        return answers(said)
    except (IndexError, ValueError):
        return []
