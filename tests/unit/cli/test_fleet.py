"""``servers``, ``models`` and ``route``: what stands behind a server, in columns, in words and for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.unit.cli.conftest import Shell
from tests.unit.client.fake_fleet import BOX, DEAD, HERE, LOCAL
from tests.unit.client.fake_server import MODEL, RUNNING, STEPS_OF_ALL

from localmodels.cli import outcomes
from localmodels.core.errors import BackendError, Conflict, Forbidden, InvalidRequest, InvalidValue, Unreachable
from localmodels.core.fleet import ModelChange, ServerChange
from localmodels.core.library import (
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Outcome,
    Progress,
    PullRequest,
    PushRequest,
)
from localmodels.core.roster import Wish
from localmodels.core.secrets import Secret
from localmodels.core.tasks import Event as TaskEvent
from localmodels.core.tasks import Failure
from localmodels.dialects.ollama.unloading import Unload

KEY = "sk-do-not-tell-1234"


def test_the_servers_are_listed_with_how_they_are(shell: Shell) -> None:
    for words in (("servers",), ("servers", "list")):
        done = shell(*words)
        assert (done.code, done.err) == (0, "")
        header, local, box, dead, off = [re.split(r" {4,}", line) for line in done.out.splitlines()]
        assert header == ["NAME", "STATE", "BUSY", "MODELS", "KIND", "URL", "NOTE"]
        assert local == ["local", "up", "0/64", "1", "local", "http://127.0.0.1:8000",
                         "this server's own engine"]  # fmt: skip
        assert box == ["Big Box", "up", "1/4", "2", "ollama", "http://10.0.0.5:11434",
                       "the default; priority 10; weight 2.5; capabilities code"]  # fmt: skip
        assert dead[1:3] == ["down", "0/8"]
        assert dead[-1] == "no connection: refused"
        assert off[-1] == "of the server's file"


def test_a_program_gets_all_that_is_known(shell: Shell) -> None:
    rows = json.loads(shell("servers", "--json").out)
    assert [row["name"] for row in rows] == ["local", "Big Box", "dead", "off"]
    assert (rows[1]["has_key"], rows[1]["models"][1]["model"], rows[3]["is_active"]) == (True, "coder:7b", False)


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_shows_it_anew_until_it_is_interrupted(shell: Shell, *, terminal: bool) -> None:
    shell.waits = 3
    done = shell("servers", "--watch", terminal=terminal)
    assert (done.code, done.out.count("Big Box"), shell.waited) == (0, 3, [2.0] * 3)
    assert done.out.count("\x1b[H\x1b[2J") == (3 if terminal else 0)
    shell.waits = 2
    lines = shell("models", "list", "--watch", "--json").out.splitlines()
    assert [len(json.loads(line)) for line in lines] == [4, 4]
    shell.waits = 2
    assert shell("route", "m", "--watch").out.count("warm, 1 of 4 busy") == 2
    lines = shell("route", "m", "--watch", "--json").out.splitlines()
    assert all(json.loads(line)["targets"] for line in lines)


def test_watching_outlasts_a_server_that_is_away_but_nothing_that_stays_wrong(shell: Shell) -> None:
    shell.waits = 3
    shell.meanwhile = [lambda: _fail(shell, Unreachable("no connection")), lambda: _fail(shell, None)]
    done = shell("servers", "--watch")
    assert (done.code, done.out.count("Big Box"), done.err) == (0, 2, "Error: no connection\n")
    shell.waits = 3
    shell.meanwhile = [lambda: _fail(shell, Forbidden("this key may not"))]
    done = shell("servers", "--watch")
    assert (done.code, done.out.count("Big Box")) == (1, 1)
    assert "may not" in done.err


def test_a_name_that_is_taken_says_how_to_change_who_has_it(shell: Shell) -> None:
    done = shell("servers", "add", "Big Box", "http://10.0.0.9:11434")
    assert done.code == 1
    assert done.err == (
        "Error: there is a server 'Big Box' already; change it with "
        "`localmodels servers set 'Big Box' --url http://10.0.0.9:11434`\n"
    )
    # One of the file is changed there.
    assert shell("servers", "add", "off", "http://10.0.0.9").err == "Error: there is a server 'off' already\n"


def test_an_address_of_openais_api_says_what_to_drop(shell: Shell) -> None:
    said = "url http://box/v1 is an address of OpenAI's API: drop /v1, or say kind openai"
    _fail(shell, InvalidValue(said))
    assert shell("servers", "add", "x", "http://box/v1").err.endswith("drop /v1, or say --kind openai\n")


def _fail(shell: Shell, error: Exception | None) -> None:
    shell.server.fails_with = error  # type: ignore[assignment]


def test_a_server_is_registered_with_all_that_is_said(shell: Shell) -> None:
    shell.environ["GPU_KEY"] = f"{KEY}\n"
    flags = ["--kind", "openai", "--key-env", "GPU_KEY", "--max-concurrent", "8", "--max-queue", "2", "--default"]
    flags += ["--priority", "5", "--weight", "2.5", "--capability", "code,chat", "--capability", "code"]
    flags += ["--description", "in the cellar", "--first-byte", "2m", "--idle", "30", "--api-version", "v2"]
    done = shell("servers", "add", "gpu", "https://gpu.example/v1", *flags)
    assert (done.code, done.out) == (0, "")
    assert done.err == "registered 'gpu'; it answers by OpenAI's API, version 0.12.6: 0 models, 0 of 8 busy\n"
    (wish,) = shell.server.fleet.wanted
    assert wish == Wish(
        said=ServerChange(
            name="gpu",
            url="https://gpu.example/v1",
            kind="openai",
            max_concurrent=8,
            max_queue=2,
            is_default=True,
            priority=5,
            weight=2.5,
            capabilities=("code", "chat"),
            description="in the cellar",
            first_byte=120.0,
            idle=30.0,
            api_version="v2",
        ),
        key=Secret(KEY),
    )


def test_what_is_not_said_is_left_to_the_server(shell: Shell) -> None:
    row = json.loads(shell("servers", "add", "gpu", "http://gpu:11434", "--json").out)
    assert (row["id"], row["name"], row["kind"]) == ("9f", "gpu", "ollama")
    assert shell.server.fleet.wanted == [Wish(said=ServerChange(name="gpu", url="http://gpu:11434"))]
    done = shell("servers", "set", "gpu", "--priority", "1")
    assert done.err.endswith("0 models, 0 of 4 busy; bring it one: `localmodels pull MODEL --server gpu`\n")


@pytest.mark.parametrize("by", ["file", "pipe", "terminal"])
def test_a_key_comes_from_a_file_a_pipe_or_a_terminal(shell: Shell, tmp_path: Path, by: str) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    where = str(file) if by == "file" else "-"
    piped = f"{KEY}\n" if by == "pipe" else None
    done = shell("servers", "set", "dead", "--key-file", where, piped=piped, secrets=[KEY])
    assert (done.code, done.prompts) == (0, ["Key: "] if by == "terminal" else [])
    assert shell.server.fleet.wanted == [("2c", Wish(key=Secret(KEY)))]
    assert KEY not in done.out + done.err
    assert shell("servers", "set", "dead", "--no-key").code == 0
    assert shell.server.fleet.wanted[-1] == ("2c", Wish(key=Secret("")))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--key-env", "NOT_THERE"), 1, "--key-env: NOT_THERE in the environment is empty or not there"),
        (
            ("--key-env", "BAD"),
            1,
            "--key-env: BAD in the environment is no key: it holds spaces, or more than one line",
        ),
        (("--key-file", "/not/there"), 1, "--key-file: /not/there cannot be read: No such file or directory"),
        (("--key-file", "-"), 1, "nothing was typed"),
        (("--key-env", "BAD", "--no-key"), 2, "exclude each other"),
        ((), 2, "say what shall be another, such as --priority 10 or --inactive; `localmodels servers --help` lists"),
        (("--first-byte", "soon"), 2, "--first-byte: "),
    ],
)
def test_what_cannot_be_is_said_before_the_server_is_asked(
    shell: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    shell.environ["BAD"] = f"{KEY} and more"
    done = shell("servers", "set", "dead", *words)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert said in done.err
    assert KEY not in done.err
    assert shell.server.paths == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("servers", "add", "gpu"), "localmodels servers add NAME URL"),
        (("servers", "rm"), "localmodels servers rm SERVER …"),
        (("servers", "set", "a", "b"), "localmodels servers set SERVER"),
        (("servers", "list", "a"), "localmodels servers list"),
        (("servers", "check", "--watch"), "--watch goes with list alone"),
        (("models", "set", "m", "--watch", "--inactive"), "--watch goes with list alone"),
        (("models", "unload"), "localmodels models unload MODEL"),
        (("models", "set", "coder:7b"), "say what shall be another"),
    ],
)
def test_a_verb_says_what_it_needs(shell: Shell, words: tuple[str, ...], said: str) -> None:
    done = shell(*words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert shell.server.asked == []


def test_a_key_is_no_argument(shell: Shell) -> None:
    done = shell("servers", "set", "dead", "--key", KEY)
    assert (done.code, done.out, done.err.count("\n"), "--key" in done.err) == (2, "", 1, True)


def test_a_server_goes_by_its_name_its_prefix_or_its_id(shell: Shell) -> None:
    for word in ("Big Box", "big box", "big-box", "1b"):
        assert shell("servers", "set", word, "--inactive").code == 0
    assert shell.server.fleet.wanted == [("1b", Wish(said=ServerChange(is_active=False)))] * 4
    done = shell("servers", "set", "nobody", "--inactive")
    assert (done.code, done.err) == (
        1, "Error: there is no server 'nobody'; there are: local, Big Box, dead, off\n"
    )  # fmt: skip
    assert shell("servers", "set", "3d", "--active").err.endswith("stands in the configuration's file\n")


def test_one_that_cannot_be_forgotten_does_not_keep_the_others(shell: Shell) -> None:
    done = shell("servers", "rm", "local", "nobody", "dead", "dead")
    assert (done.code, done.out) == (1, "")
    first, second, third, fourth = done.err.splitlines()
    assert fourth == "Error: there is no server 'dead'; there are: local, Big Box, off"  # not those before the work
    assert "cannot be taken away" in first
    assert "no server 'nobody'" in second
    assert third.startswith("forgot 'dead'")
    assert "2c" not in shell.server.fleet.servers
    assert json.loads(shell("servers", "rm", "1b", "--json").out) == {
        "id": "1b", "name": "Big Box", "status": "removed"
    }  # fmt: skip


def test_models_are_looked_for(shell: Shell) -> None:
    done = shell("servers", "discover", "Big Box")
    assert (done.code, done.out, done.err) == (0, "'Big Box' has 2 models: 1 new, 0 changed, 0 gone\n", "")
    done = shell("servers", "discover", "--json")
    assert done.code == 1
    assert [json.loads(line)["name"] for line in done.out.splitlines()] == ["local", "Big Box"]
    assert done.err.count("\n") == 1  # dead; off is not asked
    assert "refused" in done.err


def test_a_check_says_in_words_what_is_wrong(shell: Shell) -> None:
    done = shell("servers", "check")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines() == [
        "'local' answers as this server's own engine, version 1.0.0: 1 model, 0 of 64 busy",
        "'Big Box' answers by Ollama's API, version 0.12.6: 2 models, 1 of 4 busy",
        "'dead' does not answer: no connection: refused",
    ]
    assert shell.server.paths[-1] == "/api/models/servers"  # where they are asked
    done = shell("servers", "check", "big-box", "off")
    assert done.code == 0
    assert done.out.endswith("'off' is switched off; `localmodels servers set off --active` has it asked again\n")
    assert shell.server.paths[-1] == "/api/models/server/models"
    assert json.loads(shell("servers", "check", "dead", "--json").out)[0]["available"] is False


def test_one_that_was_down_is_told_to_be_tried(shell: Shell) -> None:
    shell.server.fleet.servers = {"1b": replace(BOX, state="trying")}
    assert "was down; the next request proves it" in shell("servers", "list").out
    assert shell("servers", "check").out.endswith("busy; it was down, and one request may prove it now\n")


def test_servers_words_cannot_steer_the_terminal(shell: Shell) -> None:
    shell.server.fleet.servers["2c"] = replace(DEAD, failure="\x1b]0;owned\x07\nno")
    for words in (("servers",), ("servers", "check")):
        done = shell(*words, terminal=True)
        assert "\x1b]0" not in done.out
        assert "\x07" not in done.out


def test_the_models_are_listed_by_server(shell: Shell) -> None:
    header, *rows = [re.split(r" {4,}", line) for line in shell("models").out.splitlines()]
    assert header == ["NAME", "SERVER", "STATE", "IN MEMORY", "SIZE", "CONTEXT", "PRIORITY", "CAPABILITIES", "DIGEST"]
    assert rows[0] == ["m:latest", "local", "up", "no", "4.7 GB", "0", "completion", "a" * 12]
    assert rows[1] == ["m:latest", "Big Box", "up", "yes", "4.7 GB", "8192", "3", "a" * 12]
    assert rows[2][:4] == ["coder:7b", "Big Box", "up", "?"]
    assert rows[3][:4] == ["gpt", "dead", "server down", "?"]
    assert shell("models", "list", "M:", "--server", "1b").out.count("\n") == 2
    assert shell("models", "list", "big-box/").out.count("\n") == 3
    assert shell("models", "list", "big").out.count("\n") == 1  # no model's name begins so
    assert [row["id"] for row in json.loads(shell("models", "list", "--json").out)] == ["m1", "m2", "m3", "m4"]
    assert shell("models", "list", "--server", "x").code == 1


def test_a_models_row_is_changed(shell: Shell) -> None:
    flags = ["--inactive", "--priority", "4", "--capability", "code, chat", "--rename", "Fast"]
    for words in (("coder:7b",), ("big-box/coder:7b",), ("m3",), ("CODER:7B", "--server", "Big Box")):
        assert shell("models", "set", *words, *flags).err == "changed 'coder:7b' on 'Big Box'\n"
    said = ModelChange(name="Fast", capabilities=("code", "chat"), priority=4, is_active=False)
    assert shell.server.fleet.wanted == [("m3", said)] * 4
    row = json.loads(shell("models", "set", "coder:7b", "--capability", "", "--json").out)
    assert (row["id"], row["capabilities"]) == ("m3", [])


def test_of_a_model_on_several_servers_it_is_said_on_which(shell: Shell) -> None:
    done = shell("models", "unload", "m")
    assert (done.code, done.out) == (1, "")
    assert "'m' is on local, Big Box: say on which by --server, or --server '*' for all" in done.err
    assert shell.server.fleet.wanted == []
    done = shell("models", "unload", "m", "--server", "*")
    assert (done.code, done.err.splitlines()) == (
        0,
        ["'m:latest' was not in the memory of 'local'", "'m:latest' is out of the memory of 'Big Box'"],
    )
    gone = replace(HERE, row=replace(HERE.row, id="m5", server_id="2c"), server_name="dead", available=False)
    shell.server.fleet.models["m5"] = gone  # which is not there to be unloaded
    assert shell("models", "unload", "m", "--server", "*").err.count("\n") == 2
    assert "no server has a model 'nobody'" in shell("models", "unload", "nobody").err


def test_a_model_leaves_the_graphics_cards(shell: Shell) -> None:
    done = shell("models", "unload", "big-box/m", "--from-gpu")
    assert done.err == "'m:latest' is out of the memory of 'Big Box'; 4.0 GB of graphics memory are free\n"
    told = json.loads(shell("models", "unload", "local/m", "--keep-on-cpu", "--json").out)
    assert told == {"id": "m1", "server": "local", "status": "moved", "freed_bytes": 4_000_000_000}
    assert shell.server.fleet.wanted == [("release", "m2", False), ("release", "m1", True)]
    done = shell("models", "unload", "gpt")
    assert (done.code, "refused" in done.err) == (1, True)


def test_a_model_that_is_gone_leaves_the_list(shell: Shell) -> None:
    done = shell("models", "forget", "gpt")  # its server is down: it may have it still
    assert (done.code, done.err) == (1, "Error: the server 'dead' had gpt when it was asked last\n")
    gone = replace(HERE, row=replace(HERE.row, id="m5", server_id="1b", present=False), available=False)
    shell.server.fleet.models = {"m1": HERE, "m5": gone}  # m is on two servers, and gone from one
    assert [re.split(r" {4,}", line)[2] for line in shell("models").out.splitlines()[1:]] == ["up", "gone"]
    done = shell("models", "forget", "m")
    assert (done.code, done.out, done.err) == (0, "", "forgot 'm:latest' of 'Big Box'\n")
    assert list(shell.server.fleet.models) == ["m1"]
    shell.server.fleet.models["m5"] = gone
    assert json.loads(shell("models", "forget", "m", "--server", "1b", "--json").out) == {
        "id": "m5", "server": "Big Box", "model": "m:latest", "status": "forgotten"
    }  # fmt: skip
    assert "had m:latest" in shell("models", "forget", "m", "--server", "local").err


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("servers", "set", "dead", "--active"), InvalidRequest("max_queue must be a whole number"),
         "--max-queue must be a whole number"),
        (("servers", "rm", "dead"), Conflict("it cannot be taken away; is_active false keeps it from being asked"),
         "it cannot be taken away; --inactive keeps it from being asked"),
        (("rm", "m"), Conflict("m is on the servers 'a', 'b'; say with `server` where"),
         "m is on the servers 'a', 'b': `localmodels rm m --server a --server b` does it there"),
        (("rm", "m"), Conflict("m is on the servers 'a', 'b' and 7 more; say with `server` where"),
         "m is on the servers 'a', 'b' and 7 more: `localmodels rm m --server '*'` does it there"),
        (("rm", "fast"), Conflict("fast is on the server 'a'; manage it there"),
         "fast is on the server 'a': `localmodels rm fast --server a` does it there"),
        (("cp", "a/m", "n o"), Conflict("a/m is on the server 'a'; manage it there"),
         "a/m is on the server 'a': `localmodels cp m 'n o' --server a` does it there"),
        (("rm", "max_queue"), Conflict("the model 'max_queue' and a/max_queue, my-max_queue"),
         "the model 'max_queue' and a/max_queue, my-max_queue"),
    ],
)  # fmt: skip
def test_fields_of_the_api_are_flags_here(shell: Shell, words: tuple[str, ...], error: Exception, said: str) -> None:
    shell.server.fails_with = error  # type: ignore[assignment]
    assert shell(*words).err == f"Error: {said}\n"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("the server 'a'; manage it there", "the server 'a': `localmodels push m --server a` does it there"),
        (
            "the servers 'a', 'b'; say with `server` where",
            "the servers 'a', 'b': `localmodels push m --server a` does it",
        ),
        ("the servers 'a' and 7 more; say with `server` where", "the servers 'a' and 7 more; say with --server where"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_what_only_others_have_is_pushed_from_one_of_them(shell: Shell, there: str, said: str, begun: bool) -> None:
    refusal = Conflict(f"m is on {there}")
    if begun:
        shell.server.steps, shell.server.breaks_with = STEPS_OF_ALL[:1], refusal
    else:
        shell.server.fails_with = refusal
    assert f"Error: m is on {said}" in shell("push", "m").err
    assert f"Error: m is on {said.replace('push m', 'push m --insecure')}" in shell("push", "m", "--insecure").err


def test_a_route_tells_who_would_answer_and_why(shell: Shell) -> None:
    done = shell("route", "m", "--capability", "code", "--session", "s 1")
    assert done.code == 0
    lines = [re.split(r" {4,}", line) for line in done.out.splitlines()]
    assert lines == [
        ["SERVER", "MODEL", "STATE", "IN MEMORY", "BUSY", "WHY"],
        ["big-box", "m:latest", "up", "yes", "1/4", "warm, 1 of 4 busy"],
        ["local", "m:latest", "up", "no", "0", "has to load it"],
        [""],
        ["LEFT OUT", "WHY"],
        ["dead", "it does not answer"],
    ]
    assert done.err == "by the policy auto; the first of them that has a place answers\n"
    assert shell.server.fleet.wanted == [{"model": "m", "capability": "code", "session": "s 1"}]
    assert json.loads(shell("route", "m", "--json").out)["targets"][0]["warm"] is True


def test_a_route_to_nobody_fails(shell: Shell) -> None:
    assert "nobody" in shell("route", "nobody").err
    shell.server.fleet.route = replace(shell.server.fleet.route, targets=())
    done = shell("route", "--capability", "vision")
    assert (done.code, done.err) == (1, "Error: nobody can answer this now\n")
    assert done.out.splitlines()[0].split() == ["LEFT", "OUT", "WHY"]


def test_a_route_without_a_model_leaves_the_choice_to_the_server(shell: Shell) -> None:
    assert shell("route").code == 0
    assert shell.server.fleet.wanted == [{}]


def test_a_fleet_of_nobody_is_an_empty_list(shell: Shell) -> None:
    shell.server.fleet.servers = {"0a": LOCAL, "1b": replace(BOX, models=(), version="")}
    shell.server.fleet.models = {}
    assert shell("models").out.count("\n") == 1
    assert shell("servers", "check").code == 0


# `--server`, of verbs that change a library.


def test_a_pull_tells_of_every_server(shell: Shell) -> None:
    shell.server.steps = (
        Progress("pulling manifest", server="a"),
        Progress("pulling manifest", server="b"),
        Progress("pulling a1", "sha256:a1", 10, 10, server="a"),
        Progress("error", server="b", failure="no room"),
        Progress("pulling manifest", server="a"),
        Progress("pulling manifest", server="a"),
        Progress("success"),
    )
    done = shell("pull", "m", "--server", "a", "--server", "b")
    assert done.err.splitlines() == [
        "a: pulling manifest",
        "b: pulling manifest",
        "a: pulling a1 100% of 10 B",
        "b: error: no room",
        "success",
    ]
    shown = shell("pull", "m", "--server", "*", terminal=True).err
    assert "b: error: no room" in shown
    assert shown.count("a: pulling manifest") == 1
    assert shell.server.library == [PullRequest("m", servers=("a", "b")), PullRequest("m", servers=("*",))]


@pytest.mark.parametrize(
    ("words", "asked", "said"),
    [
        (("rm", "m"), DeleteRequest("m", ("a", "b")), "deleted 'm'"),
        (("cp", "m", "n"), CopyRequest("m", "n", ("a", "b")), "copied 'm' to 'n'"),
        (("stop", "m"), Unload("m", ("a", "b"), stream=False), "unloaded 'm'"),
    ],
)
def test_what_became_of_it_is_told_server_by_server(
    shell: Shell, words: tuple[str, ...], asked: object, said: str
) -> None:
    servers = ("--server", "a", "--server", "b")
    done = shell(*words, *servers)
    table = [re.split(r" {4,}", line) for line in done.err.splitlines()]
    assert (done.code, done.out, table) == (0, "", [["SERVER", "WHAT BECAME OF IT"], ["a", said], ["b", said]])
    assert shell(*words, "--server", "a").err == f"{said} on 'a'\n"
    del shell.server.library[-1]
    rows = [json.loads(line) for line in shell(*words, *servers, "--json").out.splitlines()]
    assert [(row["server"], row["status"]) for row in rows] == [("a", "success"), ("b", "success")]
    assert shell.server.library == [asked, asked]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("words", "said"),
    [(("rm", "m"), "deleted 'm'"), (("cp", "m", "n"), "copied 'm' to 'n'"), (("stop", "m"), "unloaded 'm'")],
)
def test_who_did_it_is_told_also_where_another_failed(
    shell: Shell, words: tuple[str, ...], said: str, *, terminal: bool
) -> None:
    shell.server.lost = {"b": "no server answers\nthere", "d e": "no room"}
    servers = [word for name in ("a", "b", "c", "d e") for word in ("--server", name)]
    done = shell(*words, *servers, terminal=terminal)
    *table, error = [re.split(r" {2,}", line.strip()) for line in re.sub(r"\x1b\[\d+m", "", done.err).splitlines()]
    assert (done.code, done.out) == (1, "")
    assert table == [
        ["SERVER", "WHAT BECAME OF IT", "WHY"],
        ["a", said],
        ["b", "failed", "no server answers there"],
        ["c", said],
        ["d e", "failed", "no room"],
    ]
    why = "2 of 4 servers failed; repeat it as it is (what is done stays done), or with --server b --server 'd e' alone"
    assert error == [f"Error: {why}"]
    done = shell(*words, *servers, "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert [row["status"] for row in rows] == ["success", "error", "success", "error"]
    assert rows[3]["failure"] == "no room"
    shell.server.lost = {"a": "no", "b": "no"}
    assert shell(*words, *servers[:4]).err.splitlines()[-1] == (
        "Error: all 2 servers failed; it can be repeated as it is"
    )


def test_our_own_machine_comes_first_in_what_is_told(shell: Shell) -> None:
    lines = shell("rm", "m", "--server", "b", "--server", "local", "--server", "a").err.splitlines()
    assert [line.split()[0] for line in lines] == ["SERVER", "local", "b", "a"]


def test_a_model_that_is_named_with_its_server_is_deleted_there(shell: Shell) -> None:
    shell.server.elsewhere = {
        "Box/m": "Box/m is on the server 'box'; manage it there",
        "team/m": "team/m is on the server 'box'; say with `server` where",
    }
    done = shell("rm", "team/m")  # a name with a namespace, and nobody has said where
    assert (done.code, shell.server.library) == (1, [])
    assert done.err == "Error: team/m is on the server 'box': `localmodels rm team/m --server box` does it there\n"
    done = shell("rm", "Box/m")
    assert (done.code, done.out, done.err) == (0, "", "deleted 'm' on 'box'\n")
    assert shell.server.library[-1] == DeleteRequest("m", ("box",))
    told = json.loads(shell("rm", "Box/m", "--json").out)
    assert (told["model"], told["server"], told["status"]) == ("m", "box", "success")


def test_one_that_failed_does_not_keep_the_next_model(shell: Shell) -> None:
    shell.server.lost = {"b": "no room"}
    done = shell("rm", "m", "n", "--server", "a", "--server", "b", "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["model"], row["server"], row["status"]) for row in rows] == [
        ("m", "a", "success"), ("m", "b", "error"), ("n", "a", "success"), ("n", "b", "error")
    ]  # fmt: skip
    assert done.code == 1


def test_a_pull_that_failed_in_part_ends_with_what_became_of_every_server(shell: Shell, tmp_path: Path) -> None:
    shell.server.steps = (
        Progress("pulling manifest", server="a"),
        Progress("skipped", server="v", failure="it is of the kind openai"),
        Progress("success", server="a"),
        Progress("error", server="b", failure="no room"),
    )
    shell.server.breaks_with = BackendError("1 of 3 servers failed: b: no room")
    (tmp_path / "Modelfile").write_text("FROM m")
    for words, did in ((("pull", "m"), "pulled 'm'"), (("create", "n", "-f", str(tmp_path / "Modelfile")), "made 'n'")):
        done = shell(*words, "--server", "*")
        assert (done.code, [re.split(r" {4,}", line) for line in done.err.splitlines()[-5:-1]]) == (
            1,
            [["SERVER", "WHAT BECAME OF IT"], ["a", did], ["b", "failed"], ["v", "not asked"]],
        )
        assert done.err.count("no room") == done.err.count("it is of the kind openai") == 1
        assert done.err.splitlines()[-1].endswith("or with --server b alone")
        done = shell(*words, "--server", "*", "--json")
        rows = [json.loads(line) for line in done.out.splitlines()]
        assert (done.code, [row["status"] for row in rows][-3:]) == (1, ["skipped", "success", "error"])
        assert done.err.count("\n") == 1


def test_an_error_that_is_not_of_the_servers_is_told_as_it_is(shell: Shell) -> None:
    """The gateway ended meanwhile, say: nobody knows what became of b."""
    shell.server.steps = (Progress("error", server="a", failure="no room"), Progress("pulling manifest", server="b"))
    shell.server.breaks_with = BackendError("the server is on its way out")
    done = shell("pull", "m", "--server", "*")
    assert (done.code, done.err.splitlines()[-1]) == (1, "Error: the server is on its way out")


def test_a_deployment_that_failed_in_part_does_so_too(shell: Shell, tmp_path: Path) -> None:
    def event(number: int, server: str, *rows: tuple[str, str, str], **more: object) -> TaskEvent:
        told = [{"server": name, "status": status, "failure": why} for name, status, why in rows]
        one = next(row for row in told if row["server"] == server)
        return TaskEvent(number, "Push model to server.", 0.5, {**one, "servers": told, **more})

    shell.server.long.story = (
        event(0, "a", ("a", "pushing", ""), ("b", "waiting", ""), total=2000, completed=1000),
        event(1, "b", ("a", "pushing", ""), ("b", "pushing", ""), total=2000, completed=500),
        event(2, "b", ("a", "pushing", ""), ("b", "error", "no room")),
        event(3, "a", ("a", "success", ""), ("b", "error", "no room")),
        TaskEvent(4, "", 1.0, {}),
    )
    shell.server.long.fails = {"deploy": Failure("1 of 2 servers failed: b: no room", "backend_error", 502)}
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    done = shell("deploy", str(tmp_path / "m.gguf"), "mine", "--server", "*")
    assert done.code == 1
    assert [line for line in done.err.splitlines() if "upload" not in line] == [
        "a: Push model to server 50% of 2.0 KB",
        "b: Push model to server 20% of 2.0 KB",
        "b: error: no room",
        "a: Push model to server 100% of 2.0 KB",
        "a: success",
        "SERVER    WHAT BECAME OF IT",
        "a         made 'mine'",
        "b         failed",
        "Error: 1 of 2 servers failed; repeat it as it is (what is done stays done), or with --server b alone",
    ]


def test_a_server_without_the_model_and_one_that_cannot_are_told() -> None:
    assert outcomes.words(Outcome("a", "not found"), "deleted 'm'") == "'a' has no such model"
    assert outcomes.words(Outcome("b", "skipped", "it is of the kind openai"), "deleted 'm'") == (
        "'b' was not asked: it is of the kind openai"
    )


def test_models_are_made_and_sent_from_where_it_is_said(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM m")
    assert shell("create", "n", "-f", str(tmp_path / "Modelfile"), "--server", "*").code == 0
    assert shell("push", "m", "--server", "a").code == 0
    made, sent = shell.server.library
    assert isinstance(made, CreateRequest)
    assert (made.servers, sent) == (("*",), PushRequest("m", servers=("a",)))
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_text("{}")
    (tmp_path / "tuned" / "model.safetensors").write_bytes(bytes(8))
    last = {"a": "'a/mine' is ready; try: localmodels run a/mine", "*": "'mine' is ready; try: localmodels run mine"}
    for server, said in last.items():
        assert shell("deploy", str(tmp_path / "tuned"), "mine", "--server", server).err.splitlines()[-1] == said
    assert shell("deploy", str(tmp_path / "tuned"), "mine", "--server", "a", "--server", "b").code == 0
    assert [wanted.server for wanted in shell.server.long.wanted] == ["a", "*", "a,b"]  # type: ignore[attr-defined]


def test_a_model_is_shown_as_a_server_has_it(shell: Shell) -> None:
    assert shell("show", "m", "--system", "--server", "a").out == "Be brief.\n"
    assert json.loads(shell.server.asked[-1].content)["server"] == ["a"]


def test_lists_have_a_column_more_where_there_is_a_fleet(shell: Shell) -> None:
    shell.server.models = (
        replace(MODEL, servers=("local", "gpu"), digests={"local": "a" * 64, "gpu": "b" * 64}),
        replace(MODEL, name="n:latest", servers=("gpu",)),
    )
    header, first, second = [re.split(r" {4,}", line) for line in shell("list").out.splitlines()]
    assert header[-1] == "SERVERS"
    assert first[-1] == f"local ({'a' * 12}), gpu ({'b' * 12})"
    assert second[-1] == "gpu"


def test_what_is_in_memory_is_told_with_its_server(shell: Shell) -> None:
    shell.server.running = (replace(RUNNING, server="local"), replace(RUNNING, server="big-box"))
    header, *rows = [re.split(r" {4,}", line) for line in shell("ps").out.splitlines()]
    assert (header[-1], [row[-1] for row in rows]) == ("SERVER", ["local", "big-box"])
    assert [row["server"] for row in json.loads(shell("ps", "--server", "big-box", "--json").out)] == ["big-box"]
    done = shell("ps", "--server", "local", "--server", "dead")
    assert (done.code, done.out.count("\n")) == (1, 2)
    assert done.err == "Error: the server 'dead': it does not answer\n"  # where the API says it in two fields
    assert shell("ps", "--server", "*").out.count("\n") == 3
