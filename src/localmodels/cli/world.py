"""Everything around a command that a test wants to be another: terminal, environment, network, clock, a new server.

The rule: what costs time to import (HTTP, processes) is only named here; the verb that needs it brings it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from getpass import getpass
from time import sleep
from typing import TYPE_CHECKING, TextIO, cast

from msgspec import Struct

from localmodels.core.secrets import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from localmodels.client._sync_calls import Carrier


class Started(Struct, frozen=True):
    """A server in the background: where it answers, its process, and the first key of a new home, told this once."""

    url: str
    pid: int
    admin_key: Secret = Secret("")


class World(Struct, frozen=True, kw_only=True):
    """What a verb may touch.

    Attributes:
        environ: the environment.
        stdin, out, err: the standard streams.
        now: the time, with offset.
        read_line: shows a prompt and gives a line; raises ``EOFError`` at the end, as ``input`` does.
        read_secret: the same, and what is typed is not shown.
        carry: carries requests to a URL, with these headers and this timeout; None is the network.
        wait: waits for so many seconds.
        start: starts a server whose log goes to this file, and returns once it answers; None is a real one.
    """

    environ: Mapping[str, str]
    stdin: TextIO
    out: TextIO
    err: TextIO
    now: Callable[[], datetime]
    read_line: Callable[[str], str] = input
    read_secret: Callable[[str], str] = getpass
    carry: Callable[[str, Mapping[str, str], float | None], Carrier] | None = None
    wait: Callable[[float], None] = sleep
    start: Callable[[Path], Started] | None = None


def this_world() -> World:
    """The real one. A standard stream that was closed (``>&-``) is nothing to read or to write."""
    return World(
        environ=os.environ,
        stdin=sys.stdin or nothing("r"),
        out=sys.stdout or nothing("w"),
        err=sys.stderr or nothing("w"),
        now=lambda: datetime.now().astimezone(),
    )


def nothing(mode: str) -> TextIO:
    """Where nothing is to be read, and what is written is lost."""
    return cast("TextIO", os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
