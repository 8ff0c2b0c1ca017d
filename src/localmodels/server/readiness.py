"""What the manager of services that has started us (systemd) is told, if it wants to be: sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress

READY, STOPPING = b"READY=1", b"STOPPING=1"


def tell(environ: Mapping[str, str], state: bytes) -> None:
    """Tells how this process is. Nobody serves worse for a manager that does not listen.

    Args:
        environ: of this process; ``NOTIFY_SOCKET`` in it is a path, or a name in Linux' abstract space after an ``@``.
        state: one of those above.
    """
    where = environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.setblocking(False)  # noqa: FBT003
        teller.sendto(state, "\0" + where[1:] if where.startswith("@") else where)
