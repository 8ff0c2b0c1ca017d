"""How long operations show themselves: lines, bars, JSON; and what is said when they fail."""

from __future__ import annotations

import json
import re

import pytest
from tests.unit.cli.conftest import Shell

from localmodels.cli.lines import Lines
from localmodels.core.errors import ModelNotFound
from localmodels.core.library import CopyRequest, DeleteRequest, Progress, PullRequest, PushRequest

BLOB = "sha256:" + "ab" * 32
STEPS = (
    Progress("pulling manifest"),
    *(Progress("pulling abababab", BLOB, 1000, done) for done in (0, 10, 99, 100, 520, 1000, 1000)),
    Progress("verifying sha256 digest"),
    Progress("verifying sha256 digest"),
    Progress("success"),
)
LINES = [
    "pulling manifest",
    "pulling abababab 0% of 1.0 KB",
    "pulling abababab 10% of 1.0 KB",
    "pulling abababab 50% of 1.0 KB",
    "pulling abababab 100% of 1.0 KB",
    "verifying sha256 digest",
    "success",
]


def test_a_pipe_gets_a_line_at_each_tenth(shell: Shell) -> None:
    shell.server.steps = STEPS
    done = shell("pull", "m")
    assert (done.code, done.out, done.err.splitlines()) == (0, "", LINES)
    lines = Lines()
    assert [line for step in STEPS for line in lines.of(step)] == LINES


def test_a_terminal_gets_a_bar_for_each_blob(shell: Shell) -> None:
    shell.server.steps = STEPS
    done = shell("pull", "m", terminal=True)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.err)
    assert done.code == 0
    assert "pulling manifest" in shown
    assert re.search(r"pulling abababab ━+ 1\.0/1\.0 kB", shown)
    assert shown.count("verifying sha256 digest") == 1


def test_a_program_gets_json(shell: Shell) -> None:
    shell.server.steps = STEPS
    done = shell("push", "m", "--json", "--insecure")
    assert done.err == ""
    said = [json.loads(line) for line in done.out.splitlines()]
    assert [Progress(**step) for step in said] == list(STEPS)
    assert shell.server.library == [PushRequest("m", insecure=True)]


def test_names_of_a_server_cannot_steer_the_terminal(shell: Shell) -> None:
    shell.server.steps = (Progress("\x1b]0;owned\x07"), Progress("\x1b[2J", BLOB, 2, 1), Progress("success"))
    for terminal in (False, True):
        shown = shell("pull", "m", terminal=terminal).err
        assert "\x1b]0" not in shown
        assert "\x1b[2J" not in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_an_operation_that_breaks_off_fails(shell: Shell, *, terminal: bool) -> None:
    shell.server.cut_at = 40
    done = shell("pull", "m", terminal=terminal)
    assert done.code == 1
    assert "Error: the connection ended before the operation did" in done.err
    assert shell.server.library == [PullRequest("m")]


def test_cp(shell: Shell) -> None:
    done = shell("cp", "m", "n")
    assert (done.code, done.err) == (0, "copied 'm' to 'n'\n")
    assert json.loads(shell("cp", "m", "n", "--json").out)["status"] == "copied"
    assert shell.server.library == [CopyRequest("m", "n")] * 2


def test_rm(shell: Shell) -> None:
    done = shell("rm", "a", "b")
    assert (done.code, done.err) == (0, "deleted 'a'\ndeleted 'b'\n")
    assert shell.server.library == [DeleteRequest("a"), DeleteRequest("b")]
    assert json.loads(shell("rm", "a", "--json").out) == {"model": "a", "status": "deleted"}
    shell.server.fails_with = ModelNotFound("a")
    done = shell("rm", "a", "b")
    assert (done.code, done.err.count("Error: model 'a' not found")) == (1, 2)
