"""Where requests may go: addresses, names, and the one spelling of a server's URL."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as some

from localmodels.core.destinations import address_refusal, allowed, literal, name_refusal, reach_of, server_url
from localmodels.core.errors import InvalidValue
from localmodels.core.servers import Reach

NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "::",
    "::2",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "ff02::1",
    "ff0e::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "2001:0:a9fe:a9fe::1",
    "",
    "localhost",
    "127.1",
    "0x7f.0.0.1",
    "2130706433",
    "017700000001",
]
LOCAL = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "::1",
    "fc00::1",
    "fdff::1",
    "fec0::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "2002:7f00:1::1",
    "2002:c0a8:101::1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::c0a8:101",
    "::ffff:0:127.0.0.1",
    "::ffff:0:10.0.0.1",
]
LOOPBACK = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "2002:7f00:1::1",
    "64:ff9b::7f00:1",
    "::ffff:0:127.0.0.1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.169.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("named", [False, True])
def test_some_addresses_are_refused_whoever_named_them(address: str, named: bool) -> None:
    assert address_refusal(address, named=named)


@pytest.mark.parametrize("address", LOCAL)
def test_the_local_network_is_for_what_the_operator_named(address: str) -> None:
    assert "local network" in address_refusal(address, named=False)
    assert address_refusal(address, named=True) == ""


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_asked(address: str) -> None:
    assert address_refusal(address, named=False) == ""


@pytest.mark.parametrize(
    "host",
    ["metadata.google.internal", "METADATA.google.internal", "metadata.google.internal.", "metadata", "instance-data"],
)
def test_metadata_services_are_refused_by_name(host: str) -> None:
    assert "metadata" in name_refusal(host)


def test_other_names_are_left_to_what_they_resolve_to() -> None:
    assert name_refusal("registry.example") == ""
    assert name_refusal("metadata.example") == ""


def test_an_address_is_told_from_a_name() -> None:
    assert literal("127.0.0.1") == "127.0.0.1"
    assert literal("::1") == "::1"
    assert literal("registry.example") is None
    assert literal("0x7f000001") is None


@pytest.mark.parametrize("address", LOCAL)
def test_how_near_an_address_is(address: str) -> None:
    assert reach_of([address]) == ("loopback" if address in LOOPBACK else "private")


@pytest.mark.parametrize("address", PUBLIC)
def test_the_rest_is_far(address: str) -> None:
    assert reach_of([address]) == "public"
    assert reach_of([address, "10.0.0.1"]) == "private"


@pytest.mark.parametrize("address", NEVER)
def test_what_may_never_be_asked_is_no_server(address: str) -> None:
    with pytest.raises(InvalidValue, match="may not be asked"):
        reach_of(["1.1.1.1", address])


def test_this_machine_is_nowhere_else() -> None:
    assert reach_of(["127.0.0.1", "::1"]) == "loopback"
    with pytest.raises(InvalidValue, match="at once"):
        reach_of(["127.0.0.1", "192.168.0.1"])
    with pytest.raises(InvalidValue, match="no address"):
        reach_of([])


@pytest.mark.parametrize("reach", ["any", "loopback", "private", "public"])
@pytest.mark.parametrize("address", NEVER)
def test_never_is_never_however_near_a_server_is(address: str, reach: Reach) -> None:
    assert allowed(address, reach)


@pytest.mark.parametrize(
    ("reach", "addresses"),
    [
        ("any", {"127.0.0.1", "10.0.0.1", "1.1.1.1"}),
        ("loopback", {"127.0.0.1"}),
        ("private", {"10.0.0.1", "1.1.1.1"}),
        ("public", {"1.1.1.1"}),
    ],
)
def test_a_server_leads_no_nearer_than_where_it_was_registered(reach: Reach, addresses: set[str]) -> None:
    assert {one for one in ("127.0.0.1", "10.0.0.1", "1.1.1.1") if not allowed(one, reach)} == addresses


def test_a_refusal_says_where_it_led() -> None:
    assert allowed("::1", "public") == "it is on this machine, and the server was registered on the internet"


REACHES: tuple[Reach, ...] = ("any", "loopback", "private", "public")
ADDRESSES = some.one_of(some.ip_addresses(v=4), some.ip_addresses(v=6)).map(str)


@given(ADDRESSES)
def test_every_address_is_somewhere(address: str) -> None:
    """What may be asked at all is exactly as near as `reach_of` says, and registries' rule agrees with it."""
    if address_refusal(address, named=True):
        assert allowed(address, "any")
        return
    near = reach_of([address])
    assert not allowed(address, near)
    assert bool(allowed(address, "public")) == (near != "public") == bool(address_refusal(address, named=False))


@given(some.ip_addresses(v=4), some.sampled_from(["::ffff:{}", "64:ff9b::{}", "::ffff:0:{}"]))
def test_an_address_inside_of_another_is_judged_as_it_is(inner: ipaddress.IPv4Address, form: str) -> None:
    outer = str(ipaddress.ip_address(form.format(inner)))
    for reach in REACHES:
        assert bool(allowed(outer, reach)) == bool(allowed(str(inner), reach))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://gpu:11434", "http://gpu:11434"),
        ("HTTP://GPU:11434/", "http://gpu:11434"),
        ("http://gpu:80", "http://gpu"),
        ("https://gpu:443/", "https://gpu"),
        ("http://gpu:443", "http://gpu:443"),
        ("http://localhost.:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1.:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[FD00::0001]", "http://[fd00::1]"),
        ("https://Llm.Example/Deep/Path/", "https://llm.example/Deep/Path"),
        ("https://llm.example/v1.5/a_b~c-d", "https://llm.example/v1.5/a_b~c-d"),
        ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example"),
        ("http://my_service:9", "http://my_service:9"),
        ("http://1e100.net", "http://1e100.net"),
        ("http://3com", "http://3com"),
    ],
)
def test_a_server_has_one_spelling(text: str, url: str) -> None:
    assert server_url(text) == url
    assert server_url(url) == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with http://"),
        ("gpu:11434", "begins with http:// or https://, such as http://gpu:11434$"),
        ("127.0.0.1:20102", "begins with http:// or https://, such as http://127.0.0.1:20102$"),
        ("[::1]:8000", r"begins with http:// or https://, such as http://\[::1\]:8000$"),
        ("me:secret@gpu:1", "begins with http:// or https://$"),
        ("secret", "begins with http:// or https://$"),
        ("gpu:1/secret", "begins with http:// or https://$"),
        ("//gpu:11434", "begins with http://"),
        ("ftp://gpu", "begins with http://"),
        ("gopher://gpu", "begins with http://"),
        ("file:///etc/passwd", "begins with http://"),
        ("unix:///run/x.sock", "begins with http://"),
        ("http:/gpu", "begins with http://"),
        ("http:gpu", "begins with http://"),
        (" http://gpu", "no spaces"),
        ("http://gpu\n", "no spaces"),
        ("http://g pu", "no spaces"),
        ("http://gpu\t.example", "no spaces"),
        ("http://gpu\\@evil", "backslashes"),
        ("http://ok@evil", "no user"),
        ("http://ok:secret@evil", "no user"),
        ("http://gpu?x=1", "query"),
        ("http://gpu#x", "fragment"),
        ("http://gpu/%2e%2e/x", "percent"),
        ("http://127.0.0.1%00.example", "percent"),
        ("http://[fe80::1%25eth0]", "percent"),
        ("http://", "host of letters"),
        ("http:///x", "host of letters"),
        ("http://:8000", "host of letters"),
        ("http://.", "host of letters"),
        ("http://gpu..", "host of letters"),
        ("http://a..b", "host of letters"),
        ("http://-a", "host of letters"),
        ("http://a,b", "host of letters"),
        ("http://*", "host of letters"),
        ("http://" + "a" * 64, "host of letters"),
        ("http://" + "a." * 127 + "ab", "host of letters"),
        ("http://gpu:", "port from 1"),
        ("http://gpu:0", "port from 1"),
        ("http://gpu:080", "port from 1"),
        ("http://gpu:65536", "port from 1"),
        ("http://gpu:+80", "port from 1"),
        ("http://gpu:80:80", "HOST:PORT"),
        ("http://gpu:8_0", "port from 1"),
        ("http://2130706433", "usual form"),
        ("http://017700000001", "usual form"),
        ("http://0x7f000001", "usual form"),
        ("http://0x7f.1", "usual form"),
        ("http://127.1", "usual form"),
        ("http://127.0.1", "usual form"),
        ("http://0177.0.0.1", "usual form"),
        ("http://127.0.0.01", "usual form"),
        ("http://127.0.0.1.5", "usual form"),
        ("http://256.0.0.1", "usual form"),
        ("http://1.2.3.0x4", "usual form"),
        ("http://foo.0x", "usual form"),
        ("http://0", "usual form"),
        ("http://::1:8000", "HOST:PORT"),
        ("http://[::1", "HOST:PORT"),
        ("http://::1]", "HOST:PORT"),
        ("http://[::1]x", "HOST:PORT"),
        ("http://[gpu]", "IPv6 address in its brackets"),
        ("http://[127.0.0.1]", "IPv6 address in its brackets"),
        ("http://[]", "IPv6 address in its brackets"),
        ("http://[::ffff:127.0.0.1]", "as it is: 127.0.0.1"),
        ("http://[::ffff:7f00:1]", "as it is: 127.0.0.1"),
        ("http://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "xn--"),
        ("http://127\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}1", "xn--"),
        ("http://\N{CIRCLED DIGIT ONE}27.0.0.1", "xn--"),
        ("http://loc\N{SOFT HYPHEN}alhost", "xn--"),
        ("http://gpu//x", "without '//'"),
        ("http://gpu/x//", "without '//'"),
        ("http://gpu/./x", "without '//'"),
        ("http://gpu/../x", "without '//'"),
        ("http://gpu/x/..", "without '//'"),
        ("http://gpu/x/.", "without '//'"),
        ("http://gpu/a;b", "letters, digits"),
        ("http://gpu/a:b", "letters, digits"),
        ("http://gpu/" + "a" * 1100, "at most 1024"),
    ],
)
def test_what_would_have_to_be_interpreted_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as caught:
        server_url(text)
    assert caught.value.param == "url"
    assert "secret" not in caught.value.message


@given(some.text(max_size=80))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for full in (text, f"http://{text}", f"https://{text}/x"):
        try:
            url = server_url(full)
        except InvalidValue:
            continue
        assert server_url(url) == url


HOSTS = some.one_of(
    some.ip_addresses(v=4).map(str),
    some.integers(1 << 64, (1 << 128) - 1).map(lambda one: f"[{ipaddress.IPv6Address(one).exploded.upper()}]"),
    some.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}[A-Za-z]\.[A-Za-z]{2,5}\.?", fullmatch=True),
)


@given(some.sampled_from(["http", "https", "HTTP"]), HOSTS, some.one_of(some.none(), some.integers(1, 65535)))
def test_every_reader_of_urls_finds_the_same_host(scheme: str, host: str, port: int | None) -> None:
    """The host that was judged is the host that is asked: parsers that disagree are how it becomes another."""
    url = server_url(f"{scheme}://{host}{'' if port is None else f':{port}'}/")
    parts = urlsplit(url)
    assert parts.hostname is not None
    bare = host.strip("[]").rstrip(".").lower()
    assert (literal(parts.hostname) or parts.hostname) == (literal(bare) or bare)
    usual = {"http": 80, "https": 443}[parts.scheme]
    assert (parts.port or usual) == (port or usual)
    assert parts.port != usual


def test_there_are_spellings_enough() -> None:
    assert len({*NEVER, *LOCAL, *PUBLIC}) >= 65
