"""A model in a ``llama-server`` program that the user has: ``python -I -m localmodels.engine.binary``.

This process stays as its keeper, so that such a program lives and dies by the same rules as our own runner.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

from localmodels.engine.child import die_with_parent, live
from localmodels.engine.command import RunnerConfig, server_arguments

HEALTH = b"GET /health HTTP/1.0\r\nHost: runner\r\n\r\n"
POLL = 0.05  # seconds between two looks at whether it is ready


def start(config: RunnerConfig) -> object:
    """Starts the program and waits until it answers.

    Raises:
        OSError: it could not be started.
        RuntimeError: it ended before it was ready; its reason is on standard error.
    """
    program = subprocess.Popen(
        [config.binary, *server_arguments(config)],
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread until below
    )
    while not healthy(config.socket):
        if program.poll() is not None:
            raise RuntimeError(f"llama-server ended with status {program.returncode}")
        time.sleep(POLL)
    threading.Thread(target=follow, args=(program,), daemon=True).start()
    return program


def healthy(path: str) -> bool:
    """Does the program behind this socket say that its model is loaded?"""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            connection.sendall(HEALTH)
            return b" 200 " in connection.recv(64)
        except OSError:
            return False


def follow(program: subprocess.Popen[bytes]) -> None:
    """Ends this process when the program ends, with a status that says so."""
    os._exit(program.wait() or 1)


if __name__ == "__main__":
    sys.exit(live(start))
