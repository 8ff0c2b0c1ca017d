"""Sockets that were opened for the server by whoever started it, as systemd does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from localmodels.config import ConfigError, Settings, load
from localmodels.core.address import Address
from localmodels.server import listeners
from localmodels.server.system import listening, serve

PID = 4711


def told(count: object = 1, pid: int = PID) -> dict[str, str]:
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count)}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def given(environ: dict[str, str], handed: socket.socket) -> list[socket.socket]:
    """As if its descriptor, of which the original stays open, were the first of those handed over."""
    return listeners.given(environ, PID, first=os.dup(handed.fileno()))


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


@pytest.mark.parametrize("count", ["", "-1", "many"])
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


def test_a_given_socket_that_others_can_reach_needs_a_key_as_well(tmp_path: Path) -> None:
    """The rule is about where the server listens, whoever opened the socket."""
    with socket.create_server(("0.0.0.0", 0)) as exposed:
        loaded = listening(lambda: settings(tmp_path), [exposed])
        with pytest.raises(ConfigError, match="can be reached from other machines, and there is no key yet"):
            serve(loaded, {}, out=StringIO())
