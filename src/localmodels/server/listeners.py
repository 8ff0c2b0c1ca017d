"""The sockets that the server listens on.

A default port that is taken costs one clear line in the log and nothing else; a port that was asked for and is taken
ends the start, named (contract: listeners).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable

from localmodels.core.address import OLLAMA_PORT, Address

BACKLOG = 2048
# What the kernel keeps of an answer that its client does not take (it doubles the figure). Left to itself it keeps up
# to 4 MB for each client, of which ours knows nothing: two thousand of them would have eight gigabytes.
SEND_BUFFER = 256 * 1024
log = logging.getLogger(__name__)


class PortTaken(Exception):
    """A port that was asked for cannot be had."""


def bind(addresses: Iterable[Address], *, asked: bool) -> list[socket.socket]:
    """Listening sockets for the addresses.

    Args:
        addresses: where to.
        asked: did the user name them? Then all must be had.

    Raises:
        PortTaken: one that was asked for cannot be had, or none of the defaults.
    """
    sockets: list[socket.socket] = []
    for address in addresses:
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
    return [f"http://{Address(*listener.getsockname()[:2])}" for listener in sockets]
