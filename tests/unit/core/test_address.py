"""Addresses in every form in which people write them."""

from __future__ import annotations

import pytest

from localmodels.core.address import Address, Site
from localmodels.core.errors import InvalidValue


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("gpu", "http://gpu:11434"),
        ("gpu:1", "http://gpu:1"),
        (":8080", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:9", "http://[::1]:9"),
        ("http://gpu", "http://gpu:80"),
        ("HTTPS://gpu", "https://gpu:443"),
        ("https://gpu:8/a/b/", "https://gpu:8/a/b"),
        ("gpu/a", "http://gpu:11434/a"),
        (" 'gpu' ", "http://gpu:11434"),
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("[::]:9", "http://[::1]:9"),
    ],
)
def test_sites(text: str, url: str) -> None:
    assert Site.parse(text).url == url


@pytest.mark.parametrize(
    "text",
    ["ftp://a", "a b", "a:", "a:x", "a:65536", "a:-1", "a:٣", "[::1", "[1.2.3.4]:1", "[::1]x", "é:1", "-a:1", "a@b:1"],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(InvalidValue):
        Address.parse(text)
    if text != "a:":  # a site brings its own port
        with pytest.raises(InvalidValue):
            Site.parse(text)


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "[::1]:1", "a.example:65535", "localhost:0"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("LocalHost", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("::ffff:0.0.0.0", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Address(host, 1).is_loopback is loopback


def test_a_port_alone_is_not_taken_for_a_host() -> None:
    with pytest.raises(InvalidValue, match=r"write 127\.0\.0\.1:8080"):
        Address.parse("8080")
    with pytest.raises(InvalidValue):
        Address.parse("8080", port=11434)
