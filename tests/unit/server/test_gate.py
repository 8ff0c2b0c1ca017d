"""Forty-odd ways to spell a Host or an Origin, and what the gate says to each (threats V-29 and V-30)."""

import pytest

from localmodels.core.errors import Forbidden, InvalidRequest, Misdirected
from localmodels.server.gate import Gate, host_name

GATE = Gate(hosts=["gpu-box.lan"], origins=["https://chat.example.org/"])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:11434",
        "[::1]",
        "[::1]:8000",
        "gpu-box.lan",
        "GPU-Box.lan:8000",
    ],
)
def test_names_of_ours_pass(host: str) -> None:
    assert GATE.judge([host], [], "") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "0.0.0.0:8000",
        "[::]",
        "[::ffff:127.0.0.1]:8000",
        "2130706433",
        "0x7f000001",
        "127.1",
        "user@localhost@evil.example",
        "localhost@evil.example",
        "localhost%00.evil.example",
        "xn--lcalhost-n2a",
        "gpu-box.lan.evil.example",
        "anything.local",
        "anything.internal",
        "169.254.169.254",
        "192.168.1.10",
        "",
        " localhost",
        "[::1]evil.example",
        "127.0.0.1:evil.example",
        "localhost:8000:8000",
    ],
)
def test_other_names_are_misdirected(host: str) -> None:
    assert isinstance(GATE.judge([host], [], ""), Misdirected)


def test_our_own_address_on_this_connection_is_a_name_of_ours() -> None:
    assert GATE.judge(["192.0.2.2:8000"], [], "", reached="192.0.2.2") is None
    assert isinstance(GATE.judge(["192.0.2.3:8000"], [], "", reached="192.0.2.2"), Misdirected)


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_exactly_one_host(hosts: list[str]) -> None:
    assert isinstance(GATE.judge(hosts, [], ""), InvalidRequest)


@pytest.mark.parametrize("origin", ["http://localhost:8000", "https://chat.example.org", "HTTPS://CHAT.example.org"])
def test_own_and_allowed_origins_pass(origin: str) -> None:
    assert GATE.judge(["localhost:8000"], [origin], "cross-site") is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "file://",
        "https://evil.example",
        "http://localhost:3000",
        "https://localhost:8000",
        "http://localhost",
        "https://chat.example.org.evil.example",
        "http://chat.example.org",
        "*",
        "",
        "app://obsidian.md",
        "vscode-webview://1",
    ],
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
