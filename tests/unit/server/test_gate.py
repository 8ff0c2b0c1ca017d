"""Ways to spell a Host or an Origin, and what the gate says to each (threats V-29 and V-30)."""

import pytest
from tests.hostile import hosts

from localmodels.core.errors import Forbidden, InvalidRequest, Misdirected
from localmodels.server.gate import Gate, host_name

GATE = Gate(hosts=[hosts.ALLOWED], origins=["https://chat.example.org/"])
PORT = 8000


def spelled(texts: tuple[str, ...]) -> list[str]:
    return [text.format(port=PORT) for text in texts]


@pytest.mark.parametrize("host", spelled((*hosts.OURS, *hosts.ALLOWED_SPELLINGS)))
def test_names_of_ours_pass(host: str) -> None:
    assert GATE.judge([host], [], "", port=PORT) is None


@pytest.mark.parametrize("host", [*spelled(hosts.OTHER_NAMES), " localhost"])
def test_other_names_are_misdirected(host: str) -> None:
    assert isinstance(GATE.judge([host], [], "", port=PORT), Misdirected)
    assert isinstance(GATE.judge([host], [], "", reached="", port=PORT), Misdirected)


@pytest.mark.parametrize("host", hosts.OTHER_PORTS)
def test_a_name_of_ours_with_the_port_of_another_server_is_misdirected(host: str) -> None:
    assert "--allowed-host" in str(GATE.judge([host], [], "", port=PORT))
    assert Gate(hosts=[host_name(host)]).judge([host], [], "", port=PORT) is None


def test_our_own_address_on_this_connection_is_a_name_of_ours() -> None:
    assert GATE.judge(["192.0.2.2:8000"], [], "", reached="192.0.2.2", port=PORT) is None
    assert isinstance(GATE.judge(["192.0.2.2:80"], [], "", reached="192.0.2.2", port=PORT), Misdirected)
    assert isinstance(GATE.judge(["192.0.2.3:8000"], [], "", reached="192.0.2.2", port=PORT), Misdirected)


def test_who_listens_at_no_port_looks_at_none() -> None:
    assert GATE.judge(["localhost:1"], [], "", port=None) is None


@pytest.mark.parametrize("some", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_exactly_one_host(some: list[str]) -> None:
    assert isinstance(GATE.judge(some, [], ""), InvalidRequest)


@pytest.mark.parametrize("origin", [*spelled(hosts.OUR_PAGES), "https://chat.example.org", "HTTPS://CHAT.example.org"])
def test_own_and_allowed_origins_pass(origin: str) -> None:
    assert GATE.judge(["localhost:8000"], [origin], "cross-site") is None


@pytest.mark.parametrize(
    "origin",
    [*spelled(hosts.OTHER_PAGES), "https://chat.example.org.evil.example", "http://chat.example.org"],
)
def test_other_origins_are_refused(origin: str) -> None:
    assert isinstance(GATE.judge(["localhost:8000"], [origin], ""), Forbidden)


def test_a_cross_site_request_without_an_origin_is_refused() -> None:
    assert isinstance(GATE.judge(["localhost"], [], "cross-site"), Forbidden)
    assert GATE.judge(["localhost"], [], "none") is None
    assert isinstance(GATE.judge(["localhost"], ["http://localhost", "http://localhost"], ""), InvalidRequest)


def test_only_origins_allowed_by_name_may_read_answers() -> None:
    assert GATE.allows("https://chat.example.org")
    assert not GATE.allows("http://localhost:8000")
    assert not GATE.allows("null")


def test_host_name_drops_the_port_of_a_v6_address() -> None:
    assert host_name("[FE80::1]:80") == "fe80::1"
