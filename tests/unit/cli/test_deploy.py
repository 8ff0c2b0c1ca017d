"""``deploy``: what is sent, what is asked for, and what is said before a byte leaves."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Shell
from tests.unit.client.fake_tasks import STORY

from localmodels.cli.steps import BROKEN_OFF, GOES_ON
from localmodels.core.deploys import Deployment
from localmodels.core.errors import InvalidRequest
from localmodels.core.library import CreateRequest
from localmodels.core.tasks import Event, Failure


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given: a folder ``tuned``, what a trainer left in it, and the same with another name."""
    monkeypatch.chdir(tmp_path)
    for name in ("tuned", "Tuned 2"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(3_000_000))
        for left in ("a.py", "b.py", "c.py", "d.py", "e.py", "modeling.py", "optimizer.pt"):
            (folder / left).touch()
    shutil.copytree(tmp_path / "tuned", tmp_path / "linked")
    (tmp_path / "linked" / "README.md").symlink_to("/etc/passwd")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").touch()
    (tmp_path / "prompt.txt").write_text("{{ .Prompt }} ä", encoding="utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff")
    return tmp_path


def asked(shell: Shell) -> Deployment:
    """The last thing that was asked for."""
    wanted = shell.server.long.wanted[-1]
    assert isinstance(wanted, Deployment)
    return wanted


def test_a_folder_is_sent_without_what_no_model_needs(shell: Shell, place: Path) -> None:
    done = shell("deploy", "./tuned", "mine")
    assert (done.code, done.out) == (0, "")
    with tarfile.open(fileobj=io.BytesIO(shell.server.long.files["tuned.tar"])) as tar:
        assert sorted(tar.getnames()) == ["config.json", "model.safetensors"]
    assert asked(shell) == Deployment(CreateRequest("mine", artifact="tuned"))
    lines = done.err.splitlines()
    assert lines[0] == "not sent, since no model needs them: a.py, b.py, c.py, d.py, e.py and 2 more"
    assert "uploading tuned.tar 100% of 3.0 MB" in lines
    assert lines[-1] == "'mine' is ready; try: localmodels run mine"


def test_what_is_left_out_is_told_by_folders_first(shell: Shell, place: Path) -> None:
    for left in ("runs/Nov21_host/events.out.tfevents.1", "checkpoint-10/model.safetensors", "runs/b.py"):
        (place / "tuned" / left).parent.mkdir(parents=True, exist_ok=True)
        (place / "tuned" / left).touch()
    (place / "tuned" / "1_Pooling").mkdir()
    (place / "tuned" / "1_Pooling" / "config.json").write_text("{}")
    (place / "tuned" / "1_Pooling" / "own.py").touch()
    first = shell("deploy", "tuned", "mine").err.splitlines()[0]
    told = "checkpoint-10/, runs/, 1_Pooling/own.py, a.py, b.py and 5 more"
    assert first == f"not sent, since no model needs them: {told}"
    for file in (place / "tuned").glob("*.p[ty]"):
        file.unlink()
    for left in ("runs", "checkpoint-10"):
        shutil.rmtree(place / "tuned" / left)
    first = shell("deploy", "tuned", "mine").err.splitlines()[0]
    assert first == "not sent, since no model needs it: 1_Pooling/own.py"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothere",), "there is no file or folder 'nothere', and no artifact of that name"),
        (("nothere", "--uploaded"), "there is no artifact 'nothere'"),
    ],
)
def test_no_task_is_begun_for_an_artifact_that_there_is_not(
    shell: Shell, place: Path, words: tuple[str, ...], said: str
) -> None:
    done = shell("deploy", words[0], "mine", *words[1:])
    assert (done.code, done.out, shell.server.long.wanted) == (1, "", [])
    assert said in done.err


def test_all_that_can_be_asked_for_arrives(shell: Shell, place: Path) -> None:
    flags = [
        "-q",
        "q4_k_m",
        "--base",
        "llama3.2",
        "--server",
        "box",
        "--system",
        "Be brief.",
        "--template",
        "prompt.txt",
    ]
    flags += ["-p", "temperature=0.2", "-p", "stop=</s>", "-p", "stop=5", "--parameter", "num_ctx=2048"]
    flags += ["-p", "use_mlock=true"]
    done = shell("deploy", "tuned", "mine", *flags)
    assert asked(shell) == Deployment(
        CreateRequest(
            "mine",
            artifact="tuned",
            base="llama3.2",
            quantize="q4_k_m",
            system="Be brief.",
            template="{{ .Prompt }} ä",
            parameters=(("temperature", 0.2), ("stop", ("</s>", "5")), ("num_ctx", 2048), ("use_mlock", True)),
        ),
        "box",
    )
    assert done.err.endswith("'box/mine' is ready; try: localmodels run box/mine\n")


def test_an_artifact_is_asked_for_by_its_name(shell: Shell, place: Path) -> None:
    assert shell("deploy", "style", "mine").code == 0
    assert shell("deploy", "tuned", "mine", "--uploaded").code == 0
    assert [asked.create.artifact for asked in shell.server.long.wanted if isinstance(asked, Deployment)] == [
        "style", "tuned",
    ]  # fmt: skip
    assert shell.server.paths.count("/models/create/") == 2
    assert shell.server.long.files == {}


def test_here_and_above_have_names(shell: Shell, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "tuned")
    (place / "tuned" / "sub").mkdir()
    assert shell("deploy", ".", "mine").code == 0
    monkeypatch.chdir(place / "tuned" / "sub")
    assert shell("deploy", "..", "mine").code == 0
    assert list(shell.server.long.files) == ["tuned.tar"]


def test_a_terminal_gets_bars(shell: Shell, place: Path) -> None:
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shell("deploy", "tuned", "mine", terminal=True).err)
    assert re.search(r"uploading tuned\.tar +━+ 3\.0/3\.0 MB", shown), shown
    assert re.search(r"Convert model +━+ 1\.0/1\.0 kB", shown), shown
    assert "'mine' is ready" in shown


def test_a_program_gets_one_kind_of_line(shell: Shell, place: Path) -> None:
    done = shell("deploy", "tuned", "mine", "--json")
    events = [Event(**json.loads(line)) for line in done.out.splitlines()]
    uploads = [event for event in events if event.number < 0]
    assert (done.err, events[len(uploads) :]) == ("", list(STORY))
    assert {(event.action, event.ratio, event.details["status"]) for event in uploads} == {
        ("Upload.", 0.0, "uploading tuned.tar")
    }
    assert uploads[-1].details["completed"] == uploads[-1].details["total"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_task_that_fails_says_why(shell: Shell, place: Path, *, terminal: bool) -> None:
    shell.server.long.fails = {"deploy": Failure("the trial failed: no token", "engine_error", 500)}
    done = shell("deploy", "tuned", "mine", terminal=terminal)
    assert done.code == 1
    assert done.err.endswith("Error: the trial failed: no token\n")
    assert "is ready" not in done.err


def test_a_refusal_is_no_promise_that_anything_goes_on(shell: Shell, place: Path) -> None:
    shell.server.fails_with = InvalidRequest("there is no server 'box'; there are: none")
    done = shell("deploy", "tuned", "mine", "--server", "box")
    assert (done.code, done.err.splitlines()[-1]) == (1, "Error: there is no server 'box'; there are: none")
    assert GOES_ON not in done.err


def test_ctrl_c_after_the_upload_says_that_the_server_goes_on(shell: Shell, place: Path) -> None:
    shell.server.interrupted = True
    shell.server.long.story = STORY[:2]
    done = shell("deploy", "tuned", "mine")
    assert done.code == 130
    assert done.err.endswith(GOES_ON)
    assert BROKEN_OFF not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("./gone",), "there is no file or folder './gone'"),
        (("gone.zip",), "there is no file or folder 'gone.zip'"),
        (("gone.TAR.GZ",), "there is no file or folder 'gone.TAR.GZ'"),
        (("~nobody-of-this-name",), "there is no file or folder '~nobody-of-this-name'"),
        (("a b",), "'a b' cannot be the name of an artifact"),
        (("Tuned 2", "--uploaded"), "'Tuned 2' cannot be the name of an artifact"),
        (("linked",), "README.md is a link that leads out of the folder 'linked'; copy the file"),
        (("tuned/model.safetensors",), "'tuned/model.safetensors' are weights alone"),
        (("pickled",), "pytorch_model.bin is a pickle: save the model as safetensors"),
        (("tuned", "-q", "Q4_K_X"), "unsupported quantization type Q4_K_X"),
        (("tuned", "-p", "temperature"), "--parameter is NAME=VALUE, such as temperature=0.2, not 'temperature'"),
        (("tuned", "-p", "temprature=1"), "unknown parameter 'temprature'; did you mean 'temperature'?"),
        (("tuned", "-p", "temperature=hot"), "--parameter temperature must be a number"),
        (("tuned", "--template", "gone.txt"), "gone.txt: cannot be read as a text"),
        (("tuned", "--template", "bytes.txt"), "bytes.txt: cannot be read as a text"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    shell: Shell, place: Path, words: tuple[str, ...], said: str
) -> None:
    done = shell("deploy", words[0], "mine", *words[1:])
    not_understood = said.startswith("--parameter is")
    assert (done.code, done.out, shell.server.asked) == (2 if not_understood else 1, "", [])
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_name_that_is_none(shell: Shell, place: Path) -> None:
    assert "invalid model name '../x'; a name is [HOST/][NAMESPACE/]NAME[:TAG]" in shell("deploy", "tuned", "../x").err
    assert shell.server.asked == []
