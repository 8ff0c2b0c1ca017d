"""Archives that should not be unpacked: each is refused by name, soon and cheaply, and nothing comes of it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.hostile_archives import CASES
from tests.contract.hostile_archives.contents import pickled
from tests.contract.hostile_archives.probe import Probe

REFUSALS = {"InvalidRequest", "Unsupported", "TooLarge"}
MOST_SECONDS = 2.0  # of the processor: what else runs on the machine does not count
MOST_MEMORY = 256 * 2**20
MOST_MESSAGE = 600
# What cannot be seen before the bytes come; whoever asked for them throws away what came.
LATE = {"a zip with a bomb that lies about its size"}
# Refused because of one entry, which the message must name.
ABOUT_ONE = ("a name in", "two names", "a pickle ", "a torch file", "code as", "an ELF program as", "weights that")


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    probe = Probe(tmp_path_factory.mktemp("nothing"))
    yield probe
    probe.close()


def test_there_are_enough() -> None:
    assert len(CASES) >= 120


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "upload.zip"  # whatever it is: names promise nothing here
    path.write_bytes(CASES[case](probe.canary))
    answer = probe.ask(path)
    path.unlink()
    assert answer.error in REFUSALS, (answer.error, answer.message)
    assert not answer.given or case in LATE, "refused only after something came out"
    assert answer.seconds <= MOST_SECONDS
    assert answer.peak < MOST_MEMORY
    assert "; " in answer.message, "it does not say what would be right"
    assert "'" in answer.message or not case.startswith(ABOUT_ONE), "it does not name the entry"
    assert answer.message.isprintable(), "it lets a stranger write to a terminal"
    assert len(answer.message) < MOST_MESSAGE
    assert not list(probe.folder.iterdir())
    assert not list(tmp_path.iterdir())


def test_the_canary_would_have_fired(tmp_path: Path) -> None:
    pickle.loads(pickled(tmp_path / "fired"))  # noqa: S301 - the harm is a folder
    assert (tmp_path / "fired").exists()
