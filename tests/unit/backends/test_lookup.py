"""What a name leads to is judged whole, once for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.awaited import awaited

from localmodels.backends.lookup import Lookup, checked, reach_at
from localmodels.core.address import Address
from localmodels.core.errors import InvalidValue, Unreachable
from localmodels.core.servers import Reach


class Names:
    """A resolver that knows one answer; ``asked`` is what it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses


@awaited
async def test_all_addresses_are_given_in_their_order() -> None:
    names = Names("1.1.1.1", "2606:4700::1111")
    assert await checked("gpu.example", 8000, "public", names) == ("1.1.1.1", "2606:4700::1111")
    assert names.asked == [("gpu.example", 8000)]


@awaited
async def test_an_address_is_asked_of_nobody() -> None:
    names = Names()
    assert await checked("10.0.0.1", 8000, "private", names) == ("10.0.0.1",)
    assert await checked("0:0:0:0:0:0:0:1", 8000, "loopback", names) == ("::1",)
    assert names.asked == []


@pytest.mark.parametrize(
    ("addresses", "reach", "says"),
    [
        (["1.1.1.1", "127.0.0.1"], "public", "on this machine, and the server was registered on the internet"),
        (["127.0.0.1", "1.1.1.1"], "public", "on this machine"),
        (["10.0.0.1"], "public", "on the local network, and the server was registered on the internet"),
        (["127.0.0.1"], "private", "on this machine, and the server was registered on the local network"),
        (["10.0.0.1"], "loopback", "on the local network, and the server was registered on this machine"),
        (["169.254.169.254"], "any", "metadata"),
        (["what is this"], "any", "not an address"),
        ([], "any", "nobody knows its address"),
    ],
)
@awaited
async def test_one_bad_address_refuses_them_all(addresses: list[str], reach: Reach, says: str) -> None:
    with pytest.raises(Unreachable, match=says):
        await checked("gpu.example", 8000, reach, Names(*addresses))


@awaited
async def test_a_metadata_service_is_refused_by_its_name() -> None:
    with pytest.raises(Unreachable, match="metadata"):
        await checked("metadata.google.internal", 80, "any", Names("1.1.1.1"))


@pytest.mark.parametrize("empty", [[], ()])
@awaited
async def test_a_resolver_that_says_nothing(empty: Sequence[str]) -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        return empty

    with pytest.raises(Unreachable, match="nobody knows"):
        await checked("gpu.example", 80, "any", silent)


@pytest.mark.parametrize(
    ("url", "addresses", "reach"),
    [
        ("http://gpu.example", ["1.1.1.1"], "public"),
        ("http://gpu.example", ["192.168.0.1", "2606:4700::1111"], "private"),
        ("http://localhost:11434", ["::1", "127.0.0.1"], "loopback"),
        ("http://10.0.0.1:8000", [], "private"),
        ("http://[::1]:8000/x", [], "loopback"),
        ("https://1.1.1.1", [], "public"),
    ],
)
@awaited
async def test_how_near_a_new_server_is(url: str, addresses: list[str], reach: Reach) -> None:
    assert await reach_at(url, (), Names(*addresses)) == reach


@pytest.mark.parametrize(
    ("url", "addresses", "says"),
    [
        ("http://gpu.example", [], "no server at gpu.example: nobody knows its address"),
        ("http://gpu.example", ["169.254.169.254"], "169.254.169.254 may not be asked"),
        ("http://gpu.example", ["127.0.0.1", "1.1.1.1"], "on this machine and elsewhere at once"),
        ("http://metadata.google.internal", ["1.1.1.1"], "metadata"),
        ("http://0.0.0.0:11434", [], "127.0.0.1 is where this machine finds itself"),
        ("http://[::]:11434", [], "127.0.0.1 is where this machine finds itself"),
    ],
)
@awaited
async def test_what_can_be_no_server(url: str, addresses: list[str], says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as caught:
        await reach_at(url, (), Names(*addresses))
    assert caught.value.param == "url"


LISTENING = (Address("127.0.0.1", 8000), Address("::1", 8000), Address("192.168.0.7", 80))


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://127.0.0.1:8000", []),
        ("http://localhost:8000", ["::1"]),
        ("http://me.example", ["192.168.0.7"]),
        ("http://me.example", ["192.168.0.8", "192.168.0.7"]),
    ],
)
@awaited
async def test_this_very_server_is_none_behind_itself(url: str, addresses: list[str]) -> None:
    with pytest.raises(InvalidValue, match="is this very server"):
        await reach_at(url, LISTENING, Names(*addresses))


@awaited
async def test_others_on_this_machine_are_servers() -> None:
    for url in ("http://127.0.0.1:8001", "http://127.0.0.2:8000", "http://127.0.0.1"):
        assert await reach_at(url, LISTENING, Names()) == "loopback"
    assert await reach_at("https://192.168.0.7", LISTENING, Names()) == "private"


@awaited
async def test_a_resolver_that_never_answers_is_waited_for_no_longer_than_agreed() -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    lookup: Lookup = never
    with pytest.raises(InvalidValue, match="nobody told its address within 0 s"):
        await reach_at("http://gpu.example", (), lookup, patience=0.0)
