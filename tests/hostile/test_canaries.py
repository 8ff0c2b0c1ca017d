"""Prompts and secrets are found in nothing that stays or leaves, at the most talkative level (threat V-36, F22)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.hostile.canaries import ADAPTER, EVERY, PROMPTS, SECRETS, Run, found_in, sung

# A model's own system prompt is part of the model, and the store is where models are.
STORED = {"stored system"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canaries")


@pytest.fixture(scope="module")
def run(directory: Path) -> Run:
    return sung(directory)


def test_the_canaries_were_there(run: Run) -> None:
    assert len(run.statuses) > 300
    assert 200 in run.statuses
    assert len(run.errors) > 200
    assert any(SECRETS["a server's key"] in key for key in run.heard)
    assert found_in(json.dumps(EVERY)) == list(EVERY)


def test_none_is_in_the_log(run: Run, directory: Path) -> None:
    log = (directory / "log").read_text()
    assert found_in(log) == []
    assert run.admin_key not in log
    assert ADAPTER not in log
    assert "Traceback" not in log
    assert len(log.splitlines()) > len(run.statuses)


def test_none_is_in_the_metrics(run: Run) -> None:
    assert "localmodels_requests_total" in run.metrics
    assert found_in(run.metrics) == []
    assert run.admin_key not in run.metrics
    assert ADAPTER not in run.metrics


def test_none_is_in_an_error(run: Run) -> None:
    leaks = [(found_in(error), error[:600]) for error in run.errors if found_in(error)]
    assert leaks == []


def test_none_is_in_the_environment_of_a_child(run: Run) -> None:
    assert run.children
    assert [found_in(text) for text in run.children if found_in(text)] == []
    assert not any(run.admin_key.encode() in text or ADAPTER.encode() in text for text in run.children)


def test_none_is_in_the_home(run: Run, directory: Path) -> None:
    files = [file for root in ("home", "tmp") for file in (directory / root).rglob("*") if file.is_file()]
    assert any(file.name == "state.db" for file in files)
    kept = {"localmodels.toml", "secret"}  # what the owner wrote himself
    found = {
        file.name: leaked
        for file in files
        if file.name not in kept and (leaked := set(found_in(file.read_bytes())) - STORED)
    }
    assert found == {}
    assert not any(run.admin_key.encode() in file.read_bytes() for file in files)
    assert set(PROMPTS) > STORED
