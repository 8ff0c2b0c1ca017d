"""Sockets that were opened for the server by whoever started it, as systemd does."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from tests.proofs.restarts import HAND_OVER

from localmodels.config import ConfigError, Settings, load
from localmodels.core.address import Address
from localmodels.server import listeners
from localmodels.server.edge.server import EdgeServer
from localmodels.server.http import refuse
from localmodels.server.system import listening

PID = 4711


def told(count: object = 1, pid: int = PID) -> dict[str, str]:
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count)}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def given(environ: dict[str, str], handed: socket.socket) -> list[socket.socket]:
    """As if its descriptor, of which the original stays open, were the first of those handed over."""
    first = os.dup(handed.fileno())
    os.set_inheritable(first, True)
    return listeners.given(environ, PID, first=first)


def test_a_given_socket_is_the_same_and_no_child_inherits_it(listener: socket.socket) -> None:
    (taken,) = given(told(), listener)
    with taken:
        assert listeners.address_of(taken) == listeners.address_of(listener)
        assert not taken.get_inheritable()
        assert not taken.getblocking()
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * listeners.SEND_BUFFER


@pytest.mark.parametrize("environ", [{}, told(pid=PID + 1), {"LISTEN_FDS": "1"}, told(0)])
def test_what_is_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    assert listeners.given(environ, PID, first=10**6) == []


def test_it_is_not_bound_again_and_others_are(listener: socket.socket) -> None:
    (taken,) = given(told(), listener)
    with taken:
        there = listeners.address_of(listener)
        sockets = listeners.bind([there, Address("127.0.0.1", 0)], asked=True, given=[taken])
        with sockets[1]:
            assert [one is taken for one in sockets] == [True, False]


@pytest.mark.parametrize("count", ["", "-1", "many", "9" * 5000, "\u0663"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        listeners.given(told(count), PID)


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket() as silent, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        for wrong in (silent, local):
            with pytest.raises(ConfigError, match="ListenStream=HOST:PORT"):
                given(told(), wrong)
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="is no socket"):
        listeners.given(told(), PID, first=os.dup(file.fileno()))


def settings(home: Path, **environ: str) -> Settings:
    return load({"home": str(home)}, environ)


def test_where_it_listens_stands_in_the_place_of_the_defaults(tmp_path: Path, listener: socket.socket) -> None:
    config = listening(lambda: settings(tmp_path), [listener])().config
    assert config.listen == (listeners.address_of(listener),)


def test_what_was_asked_for_besides_is_had_too(tmp_path: Path, listener: socket.socket) -> None:
    there, more = listeners.address_of(listener), Address("127.0.0.1", 1)
    config = listening(lambda: settings(tmp_path, LOCALMODELS_LISTEN=f"{more},{there}"), [listener])().config
    assert config.listen == (there, more)


def test_without_any_the_settings_are_what_they_were(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert listening(lambda: found, [])() is found


def test_a_server_behind_is_not_where_we_listen(tmp_path: Path, listener: socket.socket) -> None:
    (tmp_path / "localmodels.toml").write_text(
        f'[[servers]]\nname = "box"\nkind = "ollama"\nurl = "http://{listeners.address_of(listener)}"\n'
    )
    with pytest.raises(ConfigError, match="box"):
        listening(lambda: settings(tmp_path), [listener])()


@pytest.mark.parametrize(
    ("there", "address", "heard"),
    [
        ("0.0.0.0:8000", "127.0.0.1:8000", True),
        ("0.0.0.0:8000", "localhost:8000", True),
        ("0.0.0.0:8000", "[::1]:8000", False),
        ("0.0.0.0:8000", "127.0.0.1:8001", False),
        ("[::]:8000", "127.0.0.1:8000", True),
        ("[::]:8000", "[::1]:8000", True),
        ("127.0.0.1:8000", "localhost:8000", True),
        ("127.0.0.1:8000", "192.168.1.10:8000", False),
    ],
)
def test_an_address_that_a_given_socket_hears_is_not_opened_again(there: str, address: str, heard: bool) -> None:
    assert listeners.covers(Address.parse(there), Address.parse(address)) is heard


def test_a_given_socket_that_others_can_reach_needs_a_key_as_well(tmp_path: Path) -> None:
    """The rule is about where the server listens, whoever opened the socket."""
    with socket.create_server(("0.0.0.0", 0)) as exposed:
        words = (sys.executable, "-m", "localmodels", "serve", "--home", str(tmp_path))
        done = subprocess.run(
            [sys.executable, "-c", HAND_OVER, str(exposed.fileno()), *words],
            pass_fds=(exposed.fileno(),),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        why = "can be reached from other machines, and there is no key yet"
        assert f"{listeners.address_of(exposed)} {why}" in done.stderr
        assert done.returncode != 0


def test_who_comes_by_ipv4_to_a_socket_for_both_is_told_by_ipv4(tmp_path: Path) -> None:
    """Else a Host that is the very address which was reached would be taken for a stranger's name."""
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def main() -> None:
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
            port = listeners.address_of(both).port
            async with EdgeServer(application, [both], refuse):
                for host in ("127.0.0.1", "::1"):
                    reader, writer = await asyncio.open_connection(host, port)
                    writer.write(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
                    await reader.read()
                    writer.close()
            assert [(one["server"], one["client"][0]) for one in seen] == [
                (("127.0.0.1", port), "127.0.0.1"),
                (("::1", port), "::1"),
            ]

    asyncio.run(main())
