from __future__ import annotations

import pytest

from localmodels.registry.destinations import address_refusal, literal, name_refusal

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


def test_there_are_spellings_enough() -> None:
    assert len({*NEVER, *LOCAL, *PUBLIC}) >= 65
