"""The short forms: what holds whatever else the machine does. ``python -m tests.proofs`` has the long ones."""

from __future__ import annotations

from tests.awaited import awaited
from tests.proofs import chunks, departures, ending, overload, restarts, slow, streams, turns
from tests.proofs.claims import broken


@awaited
async def test_many_streams_at_once() -> None:
    assert broken(await streams.proof(100, stay=2.0)) == []


@awaited
async def test_many_departures_at_once() -> None:
    assert broken(await departures.proof(100)) == []


@awaited
async def test_ten_times_more_than_can_be_answered() -> None:
    assert broken(await overload.proof(3.0)) == []


@awaited
async def test_others_beside_slow_clients() -> None:
    assert broken(await slow.proof(60, seconds=2.0, last=False)) == []


@awaited
async def test_the_end_of_the_server_with_streams_under_way() -> None:
    assert broken(await ending.proof(40, stay=3.0)) == []


@awaited
async def test_restarts_of_a_server_whose_socket_outlives_it() -> None:
    assert broken(await restarts.proof(2, each=100)) == []


@awaited
async def test_two_callers_at_a_model_of_our_own() -> None:
    assert broken(await turns.proof(12)) == []


@awaited
async def test_a_body_in_the_smallest_chunks() -> None:
    assert broken(await chunks.proof(2**14)) == []
