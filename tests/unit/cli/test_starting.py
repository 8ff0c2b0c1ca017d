"""A server in the background: ready when it says so, and its last words when it fails."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from localmodels.cli.starting import start_server
from localmodels.core.errors import Unreachable

READY = """
import json, os, sys
print("a log line", file=sys.stderr)
print(json.dumps({"url": "http://127.0.0.1:1", "urls": [], "pid": os.getpid(), "session": os.getsid(0)}), flush=True)
"""


def test_ready_is_a_line(tmp_path: Path) -> None:
    log = tmp_path / "home" / "logs" / "server.log"
    started = start_server(log, (sys.executable, "-c", READY))
    assert started.url == "http://127.0.0.1:1"
    assert started.pid > 1
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_the_first_key_is_not_shown_by_accident(tmp_path: Path) -> None:
    ready = READY.replace('"urls": []', '"urls": [], "admin_key": "lm-secret"')
    started = start_server(tmp_path / "server.log", (sys.executable, "-c", ready))
    assert started.admin_key.reveal() == "lm-secret"
    assert "lm-secret" not in repr(started)


@pytest.mark.parametrize("more", ["", "print('{}')", "print('hello')"])
def test_an_end_without_it_is_a_failure_with_the_last_words(tmp_path: Path, more: str) -> None:
    log = tmp_path / "server.log"
    log.write_text("from the last time\n")
    program = f"import sys; {more}\nfor n in range(9): print('reason', n, file=sys.stderr)"
    with pytest.raises(Unreachable) as caught:
        start_server(log, (sys.executable, "-c", program))
    assert "reason 8" in str(caught.value)
    assert "from the last time" not in str(caught.value)
    assert log.read_text().startswith("from the last time\nreason 0")
