"""Tasks as people and programs see them, and what is said to somebody who stops watching."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Shell
from tests.unit.client.fake_tasks import DONE, STORY

from localmodels.cli.steps import BROKEN_OFF, GOES_ON, Heard, Steps, words_of
from localmodels.core.library import Progress
from localmodels.core.tasks import Event, Failure

LINES = [
    "Start save model",
    "Extract model 20% of 2.0 KB",
    "Extract model 100% of 2.0 KB",
    "Success upload model file",
    "It is tiny.",
    "the license is not known",
    "Convert model 10% of 1.0 KB",
    "Convert model 100% of 1.0 KB",
    "Verify model",
    "Success create model",
]


def plain(text: str) -> str:
    """What a terminal would show."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_pipe_gets_words_and_notes(shell: Shell) -> None:
    done = shell("tasks", "follow", DONE.id)
    assert (done.code, done.out, done.err.splitlines()) == (0, "", LINES)


def test_a_terminal_gets_bars_that_end_full(shell: Shell) -> None:
    done = shell("tasks", "follow", DONE.id, terminal=True)
    shown = plain(done.err)
    assert done.code == 0
    assert re.search(r"Extract model +━+ 2\.0/2\.0 kB", shown), shown
    assert re.search(r"Convert model +━+ 1\.0/1\.0 kB", shown), shown
    assert "the license is not known" in shown
    assert "Note" not in shown


def test_a_program_gets_the_events(shell: Shell) -> None:
    done = shell("tasks", "follow", DONE.id, "--json")
    assert (done.code, done.err) == (0, "")
    assert [Event(**json.loads(line)) for line in done.out.splitlines()] == list(STORY)


def test_what_comes_after_another_thing_tells_that_it_is_done() -> None:
    steps = Steps()

    def told(action: str, **details: object) -> list[Progress]:
        return list(steps.of(Event(0, action, 0.0, details)))

    assert told("Convert model.", total=9, completed=1) == [Progress("Convert model", "", 9, 1)]
    assert told("Note.", status="so so") == [Progress("so so")]
    assert told("Convert model.", total=9, completed=5) == [Progress("Convert model", "", 9, 5)]
    assert told("Verify.") == [Progress("Convert model", "", 9, 9), Progress("Verify")]
    assert told("End.") == [Progress("End")]


def test_files_that_go_elsewhere_have_a_bar_each() -> None:
    digest = "sha256:797b70c4edf8ab"
    assert words_of("Push model to server.", {"digest": digest}) == "Push model to server 797b70c4edf8"
    assert words_of("Push model to server.", {"digest": 7, "status": 8}) == "Push model to server"
    assert words_of("Note.", {}) == words_of("Note.", {"status": ["x"]}) == "Note"


@pytest.mark.parametrize("terminal", [False, True])
def test_words_of_a_server_cannot_steer_the_terminal(shell: Shell, *, terminal: bool) -> None:
    bad = "\x1b]0;owned\x07"
    shell.server.long.story = (Event(0, bad, 0.1, {"notes": [bad, 7]}), Event(1, "End", 1.0, {"status": bad}))
    assert "\x1b]0" not in shell("tasks", "follow", DONE.id, terminal=terminal).err


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_the_end_of_one_that_fails_is_one_line(shell: Shell, words: tuple[str, ...]) -> None:
    shell.server.long.fails = {"follow": Failure("the model gave no token", "engine_error", 500)}
    done = shell("tasks", "follow", DONE.id, *words)
    assert (done.code, done.err.splitlines()[-1]) == (1, "Error: the model gave no token")


def test_who_leaves_is_told_that_the_server_goes_on(shell: Shell) -> None:
    shell.server.interrupted = True
    shell.server.long.story = STORY[:3]
    done = shell("tasks", "follow", DONE.id)
    assert done.code == 130
    assert done.err.endswith(GOES_ON)


def test_a_connection_that_breaks_ends_the_watching_alone(shell: Shell) -> None:
    shell.server.cut_at = 400
    done = shell("tasks", "follow", DONE.id)
    assert done.code == 1
    assert done.err.endswith(f"{GOES_ON}Error: the stream ended before its task did\n")


def test_what_an_upload_leaves_behind_when_it_is_broken_off(tmp_path: Path) -> None:
    heard = Heard()
    assert heard.farewell == ""
    heard.sent(Progress("uploading a", "", 10, 4))
    assert heard.farewell == BROKEN_OFF
    assert heard.sent(Progress("uploading a", "", 10, 10)).number == -1
    assert heard.farewell == GOES_ON
    other = Heard()
    other.said(STORY[0])
    assert other.farewell == GOES_ON
