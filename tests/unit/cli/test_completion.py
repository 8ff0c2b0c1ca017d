"""Completion scripts: the shells themselves say what they would offer. Those that are not here are passed over."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Shell

from localmodels.cli import VERBS
from localmodels.cli.completable import verbs
from localmodels.cli.shells import SHELLS

LIST = """NAME                       ID              SIZE      MODIFIED
llama3.2:1b                aaaaaaaaaaaa    4.7 GB    2 hours ago
localhost:5000/me/m:v1     bbbbbbbbbbbb    1.0 GB    2 hours ago
$(touch${IFS}owned)        cccccccccccc    1.0 GB    2 hours ago
`touch owned`              cccccccccccc    1.0 GB    2 hours ago
"""
SERVERS = """NAME         STATE    BUSY    MODELS    KIND      URL                       NOTE
local        up       0/64    1         local     http://127.0.0.1:8000     this server's own engine
gpu-1        up       1/4     2         ollama    http://10.0.0.5:11434     the default
Big Box      up       1/4     2         ollama    http://10.0.0.6:11434
$(touch)     up       1/4     2         ollama    http://10.0.0.7:11434
"""
BASH = r"""
source "$1"
COMP_LINE="$2" COMP_POINT=${#2}
_localmodels
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with files, and a program of our name that lists models."""
    program = tmp_path / "bin" / "localmodels"
    program.parent.mkdir()
    (tmp_path / "list.txt").write_text(LIST)
    (tmp_path / "servers.txt").write_text(SERVERS)
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/$1.txt\n")
    program.chmod(0o700)
    (tmp_path / "Modelfile two").touch()
    (tmp_path / "models").mkdir()
    return tmp_path


def run(place: Path, *command: str) -> str:
    path = f"{place / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        command,
        cwd=place,
        env={"PATH": path, "HOME": str(place), "TERM": "dumb", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert not (place / "owned").exists()
    return done.stdout


def program(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} here")
    return found


def written(shell: Shell, place: Path, name: str) -> str:
    """The file that holds a script."""
    file = place / f"script.{name}"
    file.write_text(shell("completion", name).out)
    return str(file)


OFFERS: dict[str, set[str]] = {
    "localmodels pu": {"pull", "push"},
    "localmodels run lla": {"llama3.2:1b"},
    "localmodels rm llama3.2:1b lla": {"llama3.2:1b"},
    "localmodels run --th": {"--think"},
    "localmodels run --think m": {"medium", "max"},
    "localmodels store ": {"check", "repair", "gc"},
    "localmodels completion z": {"zsh"},
    "localmodels create new -f Mod": {"Modelfile two"},
    "localmodels ls --js": {"--json"},
    "localmodels deploy Mod": {"Modelfile two"},
    "localmodels deploy x new --base lla": {"llama3.2:1b"},
    "localmodels convert mo": {"models"},
    "localmodels artifacts u": {"upload"},
    "localmodels tasks f": {"follow"},
    "localmodels servers ch": {"check"},
    "localmodels servers check ": {"local", "gpu-1"},
    "localmodels servers set gpu": {"gpu-1"},
    "localmodels servers set gpu-1 --in": {"--inactive"},
    "localmodels pull llama3.2 --server g": {"gpu-1"},
    "localmodels models unload lla": {"llama3.2:1b"},
    "localmodels route lla": {"llama3.2:1b"},
}


@pytest.mark.parametrize("line", OFFERS)
def test_bash_completes(shell: Shell, place: Path, line: str) -> None:
    said = run(place, program("bash"), "--norc", "-c", BASH, "bash", written(shell, place, "bash"), line)
    assert set(said.splitlines()) == OFFERS[line]


def test_bash_ends_words_at_colons(shell: Shell, place: Path) -> None:
    script = written(shell, place, "bash")
    bash = (program("bash"), "--norc", "-c", BASH, "bash", script)
    assert run(place, *bash, "localmodels run llama3.2:").splitlines() == ["1b"]
    assert run(place, *bash, "localmodels run localhost:5000/").splitlines() == ["5000/me/m:v1"]
    assert set(run(place, *bash, "localmodels run ").splitlines()) == {"llama3.2:1b", "localhost:5000/me/m:v1"}
    assert run(place, *bash, "localmodels create x -f nothing").split() == []
    assert run(place, *bash, "localmodels serve --home mo").split() == ["models"]


@pytest.mark.parametrize("line", OFFERS)
def test_fish_completes(shell: Shell, place: Path, line: str) -> None:
    file = written(shell, place, "fish")
    said = run(place, program("fish"), "--no-config", "-c", f"source {file}; complete -C '{line}'")
    offered = {offer.partition("\t")[0].replace("\\", "").rstrip("/") for offer in said.splitlines()}
    assert offered >= OFFERS[line]
    assert not any(offer.startswith("$") for offer in offered)


def test_zsh_reads_it(shell: Shell, place: Path) -> None:
    assert run(place, program("zsh"), "-n", written(shell, place, "zsh")) == ""


@pytest.mark.parametrize("name", SHELLS)
def test_every_verb_and_option_is_in_it(shell: Shell, name: str) -> None:
    script = shell("completion", name).out
    for verb in verbs():
        for word in verb.names:
            assert word in script
        for option in verb.options:
            assert all(word.lstrip("-") in script for word in option.names)
    assert {verb.names[0] for verb in verbs()} == set(VERBS)
    assert json.loads(shell("completion", name, "--json").out) == {"shell": name, "script": script}


def test_another_shell_is_none(shell: Shell) -> None:
    done = shell("completion", "tcsh")
    assert (done.code, "bash" in done.err) == (2, True)
