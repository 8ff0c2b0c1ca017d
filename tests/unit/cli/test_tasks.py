"""``tasks``: the long work of a server, listed, ended, forgotten and repeated, by the beginnings of ids."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace
from tests.unit.cli.conftest import Shell
from tests.unit.client.fake_tasks import DONE, FAILED, RUNNING

from localmodels.core.tasks import Failure


def test_the_list_tells_how_each_one_is(shell: Shell) -> None:
    for words in (("tasks",), ("tasks", "list")):
        lines = [line.split() for line in shell(*words).out.splitlines()]
        assert lines[0] == ["ID", "KIND", "MODEL", "STATE", "DONE", "STEP", "BEGUN"]
        assert lines[1] == [
            "c0ffee00", "upload", "tuned", "running", "66%", "Start", "extracted", "model", "1", "minute", "ago",
        ]  # fmt: skip
        assert lines[3][:5] == ["0b1e6a2c", "deploy", "mine", "failed", "90%"]
        assert " ".join(lines[3][5:]) == "the model gave no token 2 hours ago"


def test_a_long_reason_is_cut_in_the_list_and_whole_everywhere_else(shell: Shell) -> None:
    why = "the model\ngave " + "no token " * 30
    shell.server.long.tasks = (replace(FAILED, failure=Failure(why, "engine_error", 500)),)
    _, row = shell("tasks").out.splitlines()
    assert "    the model gave no token no token no token no token no token…    2 hours ago" in row
    assert json.loads(shell("tasks", "--json").out)[0]["failure"]["message"] == why


def test_a_program_gets_all_that_is_known(shell: Shell) -> None:
    rows = json.loads(shell("tasks", "--json").out)
    assert [row["id"] for row in rows] == [RUNNING.id, DONE.id, FAILED.id]
    assert rows[2]["failure"] == {
        "message": "the model gave no token",
        "code": "engine_error",
        "status": 500,
        "param": "",
    }
    assert not any("request" in row for row in rows)  # which is the server's


def test_the_beginning_of_an_id_is_enough(shell: Shell) -> None:
    assert shell("tasks", "follow", "C0FF").code == 0
    assert shell.server.paths[-1] == f"/api/tasks/{RUNNING.id}/events"
    assert shell("tasks", "retry", FAILED.id).code == 0
    assert shell.server.long.wanted == [("retry", FAILED.id)]
    assert "/api/tasks" not in shell.server.paths[-2:]  # a whole one need not be in the list


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("follow",), "say which: localmodels tasks follow ID, or its first 4 characters at least"),
        (("cancel", "c0f"), "say which: localmodels tasks cancel ID"),
        (("list", "c0ff"), "list takes no ID; how far one is: localmodels tasks follow c0ff"),
        (("cancel", "beef"), "there is no task whose id begins with 'beef'; `localmodels tasks` lists them"),
        (("retry", "0b1e6a2c"), "there is more than one task whose id begins with '0b1e6a2c'"),
        (("follow", "0b1e6a2c-9999-4a3b-8c4d-000000000002"), "not found"),
    ],
)
def test_one_that_there_is_not_is_named_and_nothing_is_changed(shell: Shell, words: tuple[str, ...], said: str) -> None:
    done = shell("tasks", *words)
    not_understood = not shell.server.asked
    assert (done.code, done.out, done.err.count("\n")) == (2 if not_understood else 1, "", 1)
    assert said in done.err
    assert shell.server.long.wanted == []


def test_one_is_ended_and_one_that_has_ended_is_forgotten(shell: Shell) -> None:
    assert shell("tasks", "cancel", "c0ffee").err == "the upload of 'tuned' is cancelled\n"
    assert shell("tasks", "cancel", DONE.id).err == "forgot the deploy of 'mine', which had succeeded\n"
    assert shell("tasks", "cancel", FAILED.id).err == "forgot the deploy of 'mine', which had failed\n"
    assert json.loads(shell("tasks", "cancel", RUNNING.id, "--json").out)["state"] == "cancelled"
    assert shell.server.long.wanted == [("DELETE", one.id) for one in (RUNNING, DONE, FAILED, RUNNING)]


def test_another_verb_is_none(shell: Shell) -> None:
    done = shell("tasks", "stop", "c0ffee")
    assert (done.code, "follow" in done.err) == (2, True)
