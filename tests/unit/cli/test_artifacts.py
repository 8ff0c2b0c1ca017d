"""``artifacts``: what was uploaded, listed, sent and taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Shell

from localmodels.core.deploys import Removal
from localmodels.core.tasks import Event, Failure


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(3_000_000))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_the_list(shell: Shell) -> None:
    for words in (("artifacts",), ("artifacts", "list"), ("artifacts", "list", "tu", "st")):
        lines = [" ".join(line.split()) for line in shell(*words).out.splitlines()]
        assert lines == [
            "NAME KIND ARCHITECTURE TYPE SIZE BASE UPLOADED",
            "tuned model LlamaForCausalLM BF16 151 KB 1 hour ago",
            "style adapter 900 B someone/tiny 2 hours ago",
        ]
    assert shell("artifacts", "list", "st").out.count("\n") == 2


def test_a_program_gets_all_that_is_known(shell: Shell) -> None:
    first, second = json.loads(shell("artifacts", "--json").out)
    assert (first["name"], first["files"][1]) == ("tuned", {"name": "model.safetensors", "size": 150_000})
    assert (second["kind"], second["base"]) == ("adapter", "someone/tiny")


def test_each_path_is_uploaded(shell: Shell, files: Path) -> None:
    done = shell("artifacts", "upload", "a.gguf", "b")
    assert (done.code, list(shell.server.long.files)) == (0, ["a.gguf", "b.tar"])
    assert shell.server.long.files["a.gguf"] == (files / "a.gguf").read_bytes()
    assert "uploading a.gguf 100% of 3.0 MB" in done.err
    assert "uploading b.tar 100% of" in done.err


def test_the_end_says_what_it_is_and_what_can_be_done_with_it(shell: Shell, files: Path) -> None:
    details = {"model": "b.tar", "artifact": "b", "notes": ["The tokenizer is missing; the base's is used."]}
    shell.server.long.story = (Event(0, "Inspect model.", 0.9), Event(1, "Success upload model file.", 1.0, details))
    done = shell("artifacts", "upload", "b")
    assert done.err.splitlines()[-3:] == [
        "Success upload model file",
        "The tokenizer is missing; the base's is used.",
        "'b' is uploaded; make a model of it: localmodels deploy --uploaded b NAME",
    ]
    done = shell("artifacts", "upload", "b", "--json")
    assert (done.err, json.loads(done.out.splitlines()[-1])["details"]) == ("", details)


def test_names_are_taken_away_one_by_one(shell: Shell) -> None:
    done = shell("artifacts", "rm", "tuned", "gone", "style")
    assert done.code == 1
    assert done.err == "deleted 'tuned'\nError: there is no artifact 'gone'\ndeleted 'style'\n"
    assert shell.server.long.wanted == [Removal("tuned"), Removal("gone"), Removal("style")]
    assert json.loads(shell("artifacts", "rm", "tuned", "--json").out) == {"artifact": "tuned", "status": "deleted"}


def test_one_in_use_stays(shell: Shell) -> None:
    shell.server.long.fails = {"delete": Failure("the artifact 'tuned' is in use", "conflict", 409)}
    done = shell("artifacts", "rm", "tuned")
    assert (done.code, done.err) == (1, "Error: the artifact 'tuned' is in use\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("upload",), 2, "say which: localmodels artifacts upload PATH"),
        (("rm",), 2, "say which: localmodels artifacts rm NAME"),
        (("upload", "a.gguf", "gone.zip"), 1, "there is no file or folder 'gone.zip'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    shell: Shell, files: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = shell("artifacts", *words)
    assert (done.code, done.err, shell.server.asked) == (code, f"Error: {said}\n", [])
