"""The verbs that ask and print: columns, JSON, errors and exit codes."""

from __future__ import annotations

import json
import re

import pytest
from msgspec.structs import replace
from tests.unit.cli.conftest import Shell
from tests.unit.client.fake_server import MODEL, RUNNING

import localmodels
from localmodels.cli import VERBS
from localmodels.cli.commands import joined
from localmodels.config import SETTINGS
from localmodels.core.errors import ModelNotFound
from localmodels.core.library import ABSENT, FAILED, SUCCESS


def test_list(shell: Shell) -> None:
    done = shell("list")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "NAME        ID              SIZE      MODIFIED\n"
        "m:latest    aaaaaaaaaaaa    4.7 GB    2 hours ago\n"
    )  # fmt: skip
    assert shell("ls").out == done.out


def test_list_on_a_terminal_says_the_same(shell: Shell) -> None:
    shown = re.sub(r"\x1b\[\d+m", "", shell("list", terminal=True).out)
    assert [line.split() for line in shown.splitlines()] == [line.split() for line in shell("list").out.splitlines()]


def test_list_only_what_begins_so(shell: Shell) -> None:
    assert shell("list", "M:").out.count("\n") == 2
    assert shell("list", "x").out == "NAME    ID    SIZE    MODIFIED\n"
    assert shell("list", "x", "--json").out == "[]\n"


def test_list_json(shell: Shell) -> None:
    (model,) = json.loads(shell("list", "--json").out)
    assert (model["name"], model["size"], model["digest"]) == (MODEL.name, MODEL.size, MODEL.digest)
    assert model["details"]["quantization_level"] == "Q4_K_M"


def test_ps(shell: Shell) -> None:
    assert shell("ps").out == (
        "NAME        ID              SIZE      PROCESSOR    CONTEXT    UNTIL\n"
        "m:latest    aaaaaaaaaaaa    5.0 GB    100% CPU     4096       5 minutes from now\n"
    )
    (row,) = json.loads(shell("ps", "--json").out)
    assert (row["model"]["name"], row["expires_at"]) == (MODEL.name, RUNNING.expires_at)


def test_show(shell: Shell) -> None:
    done = shell("show", "m")
    assert done.code == 0
    titles = [line for line in done.out.splitlines() if line and not line.startswith(" ")]
    assert titles == ["Model", "Capabilities", "Adapters", "Parameters", "System", "License"]
    assert "Adapters\n  style\n  tone\n" in done.out
    assert "  context length    8192\n" in done.out
    assert "  Be brief.\n" in done.out
    assert "line 3" not in done.out


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("modelfile", "FROM m\n"),
        ("template", "{{ .Prompt }}\n"),
        ("system", "Be brief.\n"),
        ("license", "MIT\nline 2\nline 3\n"),
    ],
)
def test_show_one_part(shell: Shell, part: str, text: str) -> None:
    assert shell("show", "m", f"--{part}").out == text
    assert json.loads(shell("show", "m", f"--{part}", "--json").out) == {part: text.rstrip("\n")}


def test_show_json(shell: Shell) -> None:
    shown = json.loads(shell("show", "m", "--json").out)
    assert shown["model"]["name"] == MODEL.name
    assert shown["info"]["llama.context_length"] == shown["model"]["context_length"] == 8192
    assert shown["messages"] == [{"role": "user", "content": "hi"}]
    assert shown["adapters"] == ["style", "tone"]
    assert "temperature" in shown["parameters"]


def test_show_takes_one_part(shell: Shell) -> None:
    done = shell("show", "m", "--system", "--license")
    assert (done.code, "not allowed with" in done.err) == (2, True)


def test_push_is_of_one_server(shell: Shell) -> None:
    done = shell("push", "m", "--server", "*")
    assert (done.code, done.out, done.err) == (2, "", (
        "Error: --server: it is one server here, not every one; `localmodels servers` lists them; "
        "`localmodels push --help` tells more\n"
    ))  # fmt: skip
    assert shell.server.asked == []


@pytest.mark.parametrize("servers", [("*",), ("local", "box"), ("local,box",)])
def test_show_of_several_servers_tells_what_each_of_them_has(shell: Shell, servers: tuple[str, ...]) -> None:
    words = [word for server in servers for word in ("--server", server)]
    done = shell("show", "m", *words)
    assert done.out.endswith(
        f"\nServers\n  local    {MODEL.digest[:12]}\n  box      no such model\n  dead     it does not answer\n"
    )
    rows = json.loads(shell("show", "m", *words, "--json").out)["servers"]
    assert [(row["server"], row["status"]) for row in rows] == [("local", SUCCESS), ("box", ABSENT), ("dead", FAILED)]
    assert "Servers" not in shell("show", "m", "--template", *words).out


def test_show_of_one_server_tells_of_that_alone(shell: Shell) -> None:
    assert "Servers" not in shell("show", "m", "--server", "box").out
    assert "servers" not in json.loads(shell("show", "m", "--server", "box", "--json").out)


def test_stop(shell: Shell) -> None:
    done = shell("stop", "m")
    assert (done.code, done.out) == (0, "")
    assert shell.server.generate.keep_alive == 0
    assert done.err == ""
    assert json.loads(shell("stop", "m", "--json").out) == {"model": "m", "status": "stopped"}


def test_stop_tells_that_there_was_nothing_to_stop(shell: Shell) -> None:
    shell.server.known.add("n")
    done = shell("stop", "n")
    assert (done.code, done.out, done.err) == (0, "", "'n' was not in memory; `localmodels ps` lists what is\n")
    assert shell.server.generate.keep_alive == 0
    assert shell("stop", "n", "--json").err == ""
    shell.server.known.add("box/n")  # which may have been in memory there
    assert shell("stop", "box/n").err == ""


def test_stop_in_a_fleet_tells_where_it_still_is(shell: Shell) -> None:
    shell.server.running = tuple(replace(RUNNING, server=name) for name in ("local", "third", "fourth"))
    done = shell("stop", "m")
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "unloaded here; still in memory on third, fourth: `localmodels stop m --server '*'` unloads it there\n"
    )
    assert shell("stop", "m", "--json").err == ""
    shell.server.running = tuple(replace(RUNNING, server=name) for name in ("third", "fourth"))
    assert shell("stop", "m").err == (
        "not in memory here; it is on third, fourth: `localmodels stop m --server '*'` unloads it there\n"
    )
    shell.server.running = (replace(RUNNING, server="local"), replace(RUNNING, server="third"))
    shell.server.unloads_at = "local"
    assert shell("stop", "m").err.endswith("on third: `localmodels stop m --server third` unloads it there\n")


def test_stop_tells_on_which_other_server_it_was_unloaded(shell: Shell) -> None:
    shell.server.running, shell.server.unloads_at = (replace(RUNNING, server="third"),), "third"
    assert shell("stop", "m").err == "unloaded 'm' on 'third'\n"
    assert json.loads(shell("stop", "m", "--json").out) == {"model": "m", "status": "stopped"}


def test_stop_of_what_several_others_have_in_memory_gives_the_command(shell: Shell) -> None:
    why = "m is in memory on the servers 'third', 'fourth'; say with `server` where it shall leave the memory"
    shell.server.elsewhere = {"m": why}
    done = shell("stop", "m")
    assert (done.code, done.err) == (1, (
        "Error: m is in memory on the servers 'third', 'fourth': "
        "`localmodels stop m --server third --server fourth` does it there\n"
    ))  # fmt: skip


def test_an_unknown_model_is_one_clear_line(shell: Shell) -> None:
    done = shell("stop", "nobody")
    assert (done.code, done.out, done.err) == (1, "", f"Error: {ModelNotFound('nobody')}\n")


def test_version(shell: Shell) -> None:
    assert shell("version").out == f"localmodels {localmodels.__version__}\nserver 9.9.9\n"
    assert shell("--version").out == shell("version").out
    shell.server.there = lambda url: False
    done = shell("version", "--json")
    assert (done.code, json.loads(done.out)) == (0, {"version": localmodels.__version__, "server": None})
    assert shell("version", "--host", "gpu").out.endswith("no server answers\n")


def test_config(shell: Shell) -> None:
    shell.environ = {"OLLAMA_KEEP_ALIVE": "10m", "LOCALMODELS_KEEPALIVE": "1"}
    done = shell("config", "--max-queue", "7", "--spin")
    rows = {line.split("    ")[0]: line for line in done.out.splitlines()[1:]}
    assert set(map(str.strip, rows)) == set(SETTINGS)
    assert "10m" in rows["keep_alive"]
    assert rows["keep_alive"].endswith("environment OLLAMA_KEEP_ALIVE")
    assert rows["max_queue"].endswith("flag --max-queue")
    assert done.err == "Note: LOCALMODELS_KEEPALIVE is no setting; did you mean 'keep_alive'?\n"


def test_config_json(shell: Shell) -> None:
    values = {row["option"]: row for row in json.loads(shell("config", "--json", "--no-spin").out)}
    assert values["listen"]["value"] == ["127.0.0.1:8000", "127.0.0.1:11434"]
    assert values["spin"] == {"option": "spin", "value": "false", "origin": "flag --spin"}


def test_a_setting_that_cannot_be_used_ends_any_verb(shell: Shell) -> None:
    shell.environ = {"LOCALMODELS_MAX_QUEUE": "many"}
    done = shell("config")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: max_queue: 'many' (environment LOCALMODELS_MAX_QUEUE) cannot be used")


@pytest.mark.parametrize("words", [(), ("lst",), ("zzz",), ("--nothing",)])
def test_words_that_mean_nothing(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell(*words)
    assert (done.code, done.out) == (2, "")
    assert ("did you mean 'list'?" in done.err) is (words == ("lst",))


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_verb(shell: Shell, word: str) -> None:
    done = shell(word)
    assert done.code == 0
    assert all(verb.doc in done.out for verb in VERBS.values())


def test_help_of_one_verb_is_its_own(shell: Shell) -> None:
    done = shell("help", "serve")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("usage: localmodels serve")
    assert "PostgreSQL for keys" in done.out
    assert "postgreSQL" not in done.out
    assert shell("help", "ls").out.startswith("usage: localmodels list")
    done = shell("help", "srve")
    assert (done.code, done.err) == (2, "Error: there is no verb 'srve'; did you mean 'serve'?\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("servers", "remove", "x"), "there is no 'remove'; did you mean 'rm'?"),
        (("keys", "remove", "x"), "there is no 'remove'; did you mean 'rm'?"),
        (("models", "remove", "x"), "there is no 'remove'; did you mean 'forget'?"),
        (("servers", "discovr"), "there is no 'discovr'; did you mean 'discover'?"),
        (("tasks", "zzz"), "there is no 'zzz'; there are list, follow, cancel, retry"),
    ],
)
def test_an_action_that_there_is_not(shell: Shell, words: tuple[str, ...], told: str) -> None:
    done = shell(*words)
    said = f"Error: ACTION: {told}; `localmodels {words[0]} --help` tells more\n"
    assert (done.code, done.out, done.err) == (2, "", said)
    assert shell.server.asked == []


@pytest.mark.parametrize("key", [("--key", "lm-secret"), ("--key=lm-secret",), ("--key",)])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(shell: Shell, key: tuple[str, ...]) -> None:
    done = shell("servers", "set", "box", *key)
    assert (done.code, done.out) == (2, "")
    assert "--key-file FILE" in done.err
    assert "lm-secret" not in done.err
    assert "--key " not in shell("help", "servers").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "a", "b"), "not understood: b"),
        (("stop",), "the following arguments are required: MODEL"),
        (("ps", "--jsn"), "not understood: --jsn"),
        (("ps", "--js"), "not understood: --js"),
        (("servers", "set", "a", "--priority", "x"), "--priority: 'x' is not a whole number"),
        (("servers", "set", "a", "--weight", "x"), "--weight: 'x' is not a number"),
        (("servers", "set", "a", "--weight", "nan"), "--weight: 'nan' is not a number"),
        (("servers", "add", "a", "http://b", "--weight", "inf"), "--weight: 'inf' is not a number"),
        (("servers", "add", "a", "http://b", "--kind", "olama"), "--kind: there is no 'olama'; did you mean 'ollama'?"),
        (("models", "list", "a", "b"), "not understood: b"),
    ],
)
def test_arguments_that_a_verb_does_not_have_are_one_line(
    shell: Shell, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = shell(*words)
    said = f"Error: {told}; `localmodels {words[0]} --help` tells more\n"
    assert (done.code, done.out, done.err) == (2, "", said)
    assert capsys.readouterr() == ("", "")  # where argparse would print its usage
    assert shell.server.asked == []


def test_names_cannot_steer_a_terminal(shell: Shell) -> None:
    shell.server.models = (replace(MODEL, name="\x1b]0;gotcha\x07m"),)
    assert "\x1b]" not in shell("list", terminal=True).out
    assert "\x07" not in shell("list").out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["m", "--think", "hi"], ["m", "--think=true", "hi"]),
        (["m", "--think", "false", "hi"], ["m", "--think=false", "hi"]),
        (["m", "--think"], ["m", "--think=true"]),
        (["--think=low", "m", "false"], ["--think=low", "m", "false"]),
        (["m", "true"], ["m", "true"]),
    ],
)
def test_an_option_takes_its_value_or_none(words: list[str], expected: list[str]) -> None:
    assert joined(words) == expected


def test_options_may_stand_between_the_model_and_the_prompt(shell: Shell) -> None:
    done = shell("run", "m", "--verbose", "Hi", "there")
    assert done.code == 0
    assert "eval rate" in done.err
    assert shell.server.chat.messages[-1].text == "Hi there"
