"""Every hostile head and body has one reading or none, however its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.awaited import awaited
from tests.hostile.framing import BODIES, CASES, HEADS, READ_IN_ONE_WAY, Case, echo
from tests.unit.server.edge.scripted import World


async def heard(pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    """What a client hears, and whether the server has ended the connection."""
    world = World(echo)
    client = world.client()
    await client.send(*pieces)
    return client.heard, client.transport.ended or client.transport.closed


def answers(data: bytes) -> list[str | int]:
    """The words of each answer, or the status of one that is a refusal."""
    found: list[str | int] = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status == 100:
            continue
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(data[:length].decode() if status == 200 else status)
        data = data[length:]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@awaited
async def test_a_case_is_heard_as_it_should_be(case: Case) -> None:
    said, ended = await heard([case.sent])
    assert answers(said) == list(case.heard)
    assert ended or case in READ_IN_ONE_WAY


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@awaited
async def test_byte_by_byte_it_is_the_same(case: Case) -> None:
    said, _ = await heard([case.sent[i : i + 1] for i in range(len(case.sent))])
    assert answers(said) == list(case.heard)


@given(st.sampled_from(CASES), st.lists(st.integers(0, 400), max_size=4))
@awaited
async def test_cut_anywhere_it_is_the_same(case: Case, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(case.sent)]
    said, _ = await heard([case.sent[a:b] for a, b in pairwise(places) if b > a])
    assert answers(said) == list(case.heard)


@pytest.mark.parametrize("case", READ_IN_ONE_WAY, ids=lambda case: case.name)
@awaited
async def test_what_is_read_is_the_same_wherever_it_is_cut_in_two(case: Case) -> None:
    for cut in range(1, len(case.sent)):
        said, _ = await heard([case.sent[:cut], case.sent[cut:]])
        assert answers(said) == list(case.heard), cut


def test_there_are_more_than_sixty_cases_and_none_is_there_twice() -> None:
    assert len(BODIES + HEADS) >= 60
    assert len({case.sent for case in CASES}) == len(CASES)
