"""A server that a manager of services has started: what it is told, and what it may say at any time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest
from tests.acceptance.serving import PATIENCE, environment, eventually, serve

ABSTRACT = pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such names"))


@pytest.mark.parametrize("abstract", [False, ABSTRACT])
def test_the_manager_is_told_when_it_listens_and_when_it_ends(tmp_path: Path, abstract: bool) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(PATIENCE)
        environ = {"NOTIFY_SOCKET": f"@{name}" if abstract else name}
        with serve(home=tmp_path / "home", environ=environ) as served:
            assert manager.recv(100) == b"READY=1"
            assert served.get("/api/version").status_code == 200
            served.signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert served.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("where", ["/nowhere/at/all", "@nobody", "nonsense", ""])
def test_a_manager_that_does_not_listen_disturbs_nothing(tmp_path: Path, where: str) -> None:
    with serve(home=tmp_path / "home", environ={"NOTIFY_SOCKET": where}) as served:
        assert served.get("/api/version").status_code == 200


def test_who_is_told_to_read_its_settings_again_while_it_starts_does_so_when_it_is_up(tmp_path: Path) -> None:
    """By itself the signal would end it: `systemctl reload` may come at any time."""
    settings, log = tmp_path / "localmodels.toml", tmp_path / "log"
    os.mkfifo(settings)  # whoever reads it waits for us
    words = ("serve", "--json", "--listen", "127.0.0.1:0", "--home", str(tmp_path))
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "localmodels", *words],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            with read(settings) as first:
                process.send_signal(signal.SIGHUP)
                settings.unlink()
                settings.write_text('log_level = "debug"\n')
                first.write('log_level = "info"\n')
            eventually(lambda: "new: log_level" in log.read_text(), "the settings are read again")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def read(fifo: Path) -> TextIO:
    """The end of a pipe at which one writes, once somebody reads at the other."""

    def opened() -> int | None:
        with suppress(OSError):  # nobody does yet
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        return None

    return os.fdopen(eventually(opened, "the settings are read") or 0, "w")
