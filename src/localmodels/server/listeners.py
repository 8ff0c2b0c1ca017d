"""The sockets that the server listens on.

A default port that is taken costs one clear line in the log and nothing else; a port that was asked for and is taken
ends the start, named (contract: listeners).

Sockets that whoever starts the server has opened for it (systemd's socket activation) outlive it: who connects while it
is started anew waits, and is not refused. They are served like our own, by the same rules.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Mapping, Sequence

from localmodels.config import ConfigError
from localmodels.core.address import OLLAMA_PORT, THIS_MACHINE, Address

BACKLOG = 2048
# What the kernel keeps of an answer that its client does not take (it doubles the figure). Left to itself it keeps up
# to 4 MB for each client, of which ours knows nothing: two thousand of them would have eight gigabytes.
SEND_BUFFER = 256 * 1024
# Where descriptors that are handed over begin (sd_listen_fds(3)).
FIRST_GIVEN = 3
MOST_GIVEN = 9999
log = logging.getLogger(__name__)


class PortTaken(Exception):
    """A port that was asked for cannot be had."""


def given(environ: Mapping[str, str], pid: int, first: int = FIRST_GIVEN) -> list[socket.socket]:
    """Sockets that listen already, as systemd hands them over: ``LISTEN_FDS`` of them, if ``LISTEN_PID`` means us.

    Args:
        environ: of this process.
        pid: of this process.
        first: descriptor.

    Raises:
        ConfigError: what was handed over is no TCP socket that listens.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = environ.get("LISTEN_FDS", "")
    if not count.isascii() or not count.isdecimal() or len(count) > len(str(MOST_GIVEN)):
        raise ConfigError(f"LISTEN_FDS is a number of sockets, not '{count[:20]}'")
    return [_taken_over(number) for number in range(first, first + int(count))]


def _taken_over(number: int) -> socket.socket:
    try:
        os.set_inheritable(number, False)  # noqa: FBT003
        listener = socket.socket(fileno=number)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError(f"descriptor {number}, which was handed over, is no socket: {error.strerror}") from error
    if not listens or listener.family not in {socket.AF_INET, socket.AF_INET6}:
        listener.close()
        way = "in a .socket unit of systemd: ListenStream=HOST:PORT"
        raise ConfigError(f"descriptor {number}, which was handed over, is no TCP socket that listens; {way}")
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    listener.setblocking(False)  # noqa: FBT003
    return listener


def address_of(listener: socket.socket) -> Address:
    """Where it listens."""
    return Address(*listener.getsockname()[:2])


def covers(there: Address, address: Address) -> bool:
    """Does who listens there hear what is sent to this address? All of a port is heard at ``0.0.0.0`` and ``[::]``."""
    host = THIS_MACHINE if address.host == "localhost" else address.host
    everywhere = there.host == "::" or (there.host == "0.0.0.0" and ":" not in host)  # noqa: S104 - compared, not bound
    return there.port == address.port and (everywhere or there.host == host)


def bind(addresses: Iterable[Address], *, asked: bool, given: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Listening sockets for the addresses.

    Args:
        addresses: where to.
        asked: did the user name them? Then all must be had.
        given: those that there are already; they come first.

    Raises:
        PortTaken: one that was asked for cannot be had, or none of the defaults.
    """
    sockets = list(given)
    had = tuple(map(address_of, given))
    for address in addresses:
        if any(covers(there, address) for there in had):
            continue
        try:
            sockets.append(_listen(address))
        except OSError as error:
            if asked:
                for opened in sockets:
                    opened.close()
                raise PortTaken(f"cannot listen on {address}: {error.strerror}") from error
            log.warning("%s is taken (%s); going on without it", address, error.strerror)
    if not sockets:
        raise PortTaken("none of the default ports is free; choose one with --listen HOST:PORT")
    return sockets


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # of every connection, which inherits it
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003
    return listener


def taken(addresses: Iterable[Address], sockets: Iterable[socket.socket], port: int = OLLAMA_PORT) -> list[Address]:
    """Those of the addresses at which Ollama's clients look for Ollama, and that somebody else has."""
    ours = {listener.getsockname()[:2] for listener in sockets}
    return [one for one in addresses if one.port == port and (one.host, one.port) not in ours]


def urls(sockets: Iterable[socket.socket]) -> list[str]:
    """The addresses as a person types them."""
    return [f"http://{address_of(listener)}" for listener in sockets]
