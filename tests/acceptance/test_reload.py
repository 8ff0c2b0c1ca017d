"""SIGHUP: the configuration is read again while answers go on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx2
import pytest
from tests.acceptance.serving import PATIENCE, eventually, serve

BEFORE = '[alias]\nfirst = "endless"\n'
AFTER = '[alias]\nsecond = "endless"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "localmodels.toml").write_text(BEFORE)
    return tmp_path


def test_a_new_configuration_is_adopted_and_a_broken_one_is_not(models: dict[str, Path], home: Path) -> None:
    log, file = home / "log", home / "localmodels.toml"
    with serve("--model", f"endless={models['endless']}", home=home, log=log) as served:

        def answers(name: str) -> bool:
            return served.post("/api/show", model=name).status_code == 200

        assert (answers("first"), answers("second")) == (True, False)
        body = {"model": "first", "messages": [{"role": "user", "content": "hi"}]}
        with httpx2.stream("POST", f"{served.url}/api/chat", json=body, timeout=PATIENCE) as stream:
            lines = stream.iter_lines()
            assert "message" in json.loads(next(lines))
            file.write_text(AFTER)
            served.signal(signal.SIGHUP)
            eventually(lambda: "new: alias" in log.read_text(), "the configuration is adopted")
            assert (answers("first"), answers("second")) == (False, True)
            assert all("error" not in json.loads(next(lines)) for _ in range(10))  # the stream goes on
        file.write_text('keep_alive = "soon"\n')
        served.signal(signal.SIGHUP)
        eventually(lambda: "the configuration stays as it was" in log.read_text(), "the configuration is refused")
        assert answers("second")
