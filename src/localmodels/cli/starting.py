"""Starts a server in the background and waits until it answers.

``localmodels serve --json`` prints one line when it is ready, and nothing else on that stream: so its end without a
line is the sign that the start failed, and no time need be guessed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from localmodels.cli.world import Started
from localmodels.core.errors import Unreachable
from localmodels.core.secrets import Secret

COMMAND = (sys.executable, "-m", "localmodels", "serve", "--json")
TAIL_LINES = 5


def start_server(log: Path, command: Sequence[str] = COMMAND) -> Started:
    """A server of its own session: it outlives this program and the terminal, and Ctrl-C here does not reach it.

    Args:
        log: file that its log is added to; made, with its directory, for the user alone.
        command: what to run.

    Raises:
        Unreachable: it ended, or said something else; the message has the end of its log.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.touch(mode=0o600)
    with log.open("ab") as end:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=end, start_new_session=True
        )
    assert child.stdout is not None  # noqa: S101 - asked for above; tells the type checker
    with child.stdout as pipe:
        line = pipe.readline()
    try:
        started = msgspec.json.decode(line, type=Started, dec_hook=_hidden)
    except msgspec.DecodeError as error:
        child.wait()
        raise Unreachable(f"the server did not start; the end of {log}:\n{tail(log)}") from error
    child.returncode = 0  # it is left alone on purpose, of which subprocess would warn
    return started


def _hidden(kind: type, value: object) -> object:
    """The one field that is neither a text nor a number."""
    return Secret(str(value)) if kind is Secret else value


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
