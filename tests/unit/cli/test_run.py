"""``localmodels run``: one answer, a conversation, and the server that is started for it."""

from __future__ import annotations

import json
import stat

import pytest
from msgspec.structs import replace
from tests.unit.cli.conftest import Shell
from tests.unit.client.fake_server import DONE, MODEL

from localmodels.core.chat import Chunk, Event, Format
from localmodels.core.errors import InvalidRequest, RunnerDied
from localmodels.core.library import PullRequest

THOUGHT: tuple[Event, ...] = (Chunk(thinking="hm"), Chunk(thinking=", so"), Chunk(text="Yes"), DONE)


def contents(shell: Shell) -> list[tuple[str, str]]:
    """Who said what in the last question."""
    return [(message.role, message.text) for message in shell.server.chat.messages]


def test_a_prompt_is_answered_once(shell: Shell) -> None:
    done = shell("run", "m", "Why", "is it?")
    assert (done.code, done.out, done.err, done.prompts) == (0, "Hello\n", "", [])
    assert contents(shell) == [("user", "Why is it?")]


def test_a_pipe_is_a_prompt_and_comes_before_the_words(shell: Shell) -> None:
    assert shell("run", "m", piped="text\n").out == "Hello\n"
    assert contents(shell) == [("user", "text")]
    shell("run", "m", "Sum it up.", piped="text\n")
    assert contents(shell) == [("user", "text\n\nSum it up.")]


@pytest.mark.parametrize(("words", "piped"), [((), ""), (("--json",), None)])
def test_nothing_to_ask(shell: Shell, words: tuple[str, ...], piped: str | None) -> None:
    done = shell("run", "m", *words, piped=piped)
    assert (done.code, done.out) == (2, "")
    assert "there is no prompt" in done.err
    assert shell.server.asked == []


def test_flags_reach_the_request(shell: Shell) -> None:
    shell("run", "--think=high", "--format", '{"type": "object"}', "--keepalive", "10m", "m", "Hi")
    asked = shell.server.chat
    assert (asked.format, asked.think, asked.keep_alive) == (Format({"type": "object"}), "high", 600)
    shell("run", "m", "Hi", "--format", "json")
    asked = shell.server.chat
    assert (asked.format, asked.think, asked.keep_alive) == (Format(), None, None)


def test_think_alone_does_not_eat_the_model(shell: Shell) -> None:
    assert shell("run", "--think", "m", "Hi").code == 0
    assert (shell.server.chat.model, shell.server.chat.think) == ("m", True)


@pytest.mark.parametrize("words", [("--format", "xml"), ("--format", "[]"), ("--think=much",), ("--keepalive", "soon")])
def test_flags_that_cannot_be_used(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell("run", *words, "m", "Hi")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: ")
    assert shell.server.asked == []


def test_thinking_is_dim_on_a_terminal_and_absent_in_a_pipe(shell: Shell) -> None:
    shell.server.events = THOUGHT
    assert shell("run", "m", "Hi").out == "Yes\n"
    assert shell("run", "m", "Hi", terminal=True).out == "\x1b[2mhm, so\x1b[0m\n\nYes\n\n"


def test_an_answer_cannot_steer_a_terminal(shell: Shell) -> None:
    shell.server.events = (Chunk(text="a\x1b]52;c;evil\x07b\tc\n"), DONE)
    assert shell("run", "m", "Hi", terminal=True).out == "a\ufffd]52;c;evil\ufffdb\tc\n\n"
    assert shell("run", "m", "Hi").out == "a\x1b]52;c;evil\x07b\tc\n"


def test_verbose_prints_timings_beside_the_answer(shell: Shell) -> None:
    done = shell("run", "m", "Hi", "--verbose")
    assert done.out == "Hello\n"
    assert "prompt eval count:      20 tokens, 5 of them cached\n" in done.err
    assert "prompt eval rate:       15.0 tokens/s\n" in done.err
    assert "eval rate:              2.0 tokens/s\n" in done.err


def test_verbose_says_who_answered(shell: Shell) -> None:
    """Of ``auto`` nobody else does."""
    shell.server.known.add("auto")
    shell.server.headers = {"X-LocalModels-Server": "box"}
    told = shell("run", "auto", "Hi", "--verbose").err.splitlines()
    assert told[:2] == ["model:                  m:latest", "server:                 box"]
    assert "model: " not in shell("run", "auto", "Hi").err
    shell.server.headers = {}
    typed = shell("run", "auto", "--verbose", typed=["Hi", "Hi", "/bye"]).err
    assert (typed.count("model:  "), typed.count("server:  ")) == (2, 0)


def test_json_is_the_whole_answer(shell: Shell) -> None:
    answer = json.loads(shell("run", "m", "Hi", "--json").out)
    assert (answer["text"], answer["done"]["reason"], answer["done"]["usage"]["prompt_tokens"]) == ("Hello", "stop", 20)
    assert (answer["model"], answer["server"]) == (MODEL.name, ""), "it does not say who it is"
    shell.server.headers = {"X-LocalModels-Server": "big-box"}
    answer = json.loads(shell("run", "m", "Hi", "--json").out)
    assert (answer["model"], answer["server"]) == (MODEL.name, "big-box")


def test_an_answer_that_breaks_ends_its_line_and_the_command(shell: Shell) -> None:
    shell.server.events, shell.server.breaks_with = [Chunk(text="Hel")], RunnerDied("the runner ended")
    done = shell("run", "m", "Hi")
    assert (done.code, done.out) == (1, "Hel\n")
    assert "the runner ended" in done.err


def test_ctrl_c_ends_the_command(shell: Shell) -> None:
    shell.server.interrupted, shell.server.events = True, [Chunk(text="Hel")]
    done = shell("run", "m", "Hi")
    assert (done.code, done.out) == (130, "Hel\n")


def test_a_conversation_keeps_what_was_said(shell: Shell) -> None:
    done = shell("run", "m", typed=["Hi", "", "And you?", "/bye", "never read"])
    assert (done.code, done.out) == (0, "Hello\nHello\n")
    assert done.prompts == [">>> "] * 4
    assert contents(shell) == [("user", "Hi"), ("assistant", "Hello"), ("user", "And you?")]
    assert shell.server.paths.index("/api/generate") < shell.server.paths.index("/api/chat")


def test_a_conversation_with_nobody_is_not_begun(shell: Shell) -> None:
    done = shell("run", "nobody", typed=["Hi"])
    assert (done.code, done.prompts) == (1, [])
    assert "model 'nobody' not found" in done.err


def test_several_lines_are_one_message(shell: Shell) -> None:
    done = shell("run", "m", typed=['"""a', "b", 'c"""', '/set system """be', 'kind"""', "Hi"])
    assert done.prompts == [">>> ", "... ", "... ", ">>> ", "... ", ">>> ", ">>> "]
    assert contents(shell) == [("system", "be\nkind"), ("user", "a\nb\nc"), ("assistant", "Hello"), ("user", "Hi")]


def test_ctrl_c_at_the_prompt_says_how_to_leave_and_forgets_the_line(shell: Shell) -> None:
    done = shell("run", "m", typed=['"""half', KeyboardInterrupt, "Hi"])
    assert "Ctrl-D or /bye leaves." in done.out
    assert contents(shell) == [("user", "Hi")]


def test_ctrl_c_stops_the_answer_and_keeps_what_came(shell: Shell) -> None:
    shell.server.interrupted, shell.server.events = True, [Chunk(text="Hel")]
    done = shell("run", "m", typed=["Hi", "Go on"])
    assert (done.code, done.out) == (0, "Hel\nHel\n\n")
    assert contents(shell) == [("user", "Hi"), ("assistant", "Hel"), ("user", "Go on")]


def test_a_question_that_fails_is_said_and_the_conversation_goes_on(shell: Shell) -> None:
    def there(url: object) -> bool:
        shell.server.fails_with = InvalidRequest("no") if len(shell.server.asked) == 2 else None
        return True

    shell.server.there = there
    done = shell("run", "m", typed=["Hi", "Again"])
    assert done.code == 0
    assert done.err == "Error: no\n"
    assert contents(shell) == [("user", "Again")]


def test_commands_in_a_conversation(shell: Shell) -> None:
    done = shell(
        "run",
        "m",
        typed=["/set parameter temperature 0.2", "/show system", "/show license", "/nope", "Hi", "/clear", "Ho"],
    )
    assert "Be brief.\n" in done.out
    assert "There is no command /nope" in done.out
    assert shell.server.chat.options.temperature == 0.2
    assert contents(shell) == [("user", "Ho")]


def test_lines_are_kept_for_their_owner_alone(shell: Shell) -> None:
    shell("run", "m", typed=["/bye"])
    history = shell.home / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(shell.home.stat().st_mode) == 0o700


def test_a_server_is_started_where_none_runs(shell: Shell) -> None:
    shell.server.there = lambda url: False
    done = shell("run", "m", "Hi")
    assert (done.code, done.out) == (0, "Hello\n")
    assert shell.started == [shell.home / "logs" / "server.log"]
    assert "kill 99" in done.err
    assert shell.server.asked[-1].url.port == 4711


def test_no_server_is_started_in_place_of_one_that_was_named(shell: Shell) -> None:
    shell.server.there = lambda url: False
    assert shell("run", "m", "Hi", "--host", "gpu").code == 1
    assert shell.started == []


def test_a_model_that_is_not_here_is_pulled_first(shell: Shell) -> None:
    shell.server.pulls = True
    done = shell("run", "m:new", "Hi")
    assert (done.code, done.out) == (0, "Hello\n")
    assert done.err.startswith("There is no model 'm:new' here; pulling it\n")
    assert shell.server.library == [PullRequest("m:new")]
    printed = shell("run", "m:other", "Hi", "--json").out  # the answer alone
    assert printed == shell("run", "m", "Hi", "--json").out
    assert json.loads(printed)


def test_a_model_that_is_nowhere_or_not_to_be_pulled_is_not_found(shell: Shell) -> None:
    for words in (("--no-pull",), ()):
        done = shell("run", "x", "Hi", *words)
        assert (done.code, done.out) == (1, "")
        assert done.err.endswith("Error: model 'x' not found\n")
    assert len(shell.server.library) == 1


def test_a_model_that_a_server_of_the_fleet_lacks_is_looked_for_in_no_registry(shell: Shell) -> None:
    shell.server.models = (replace(MODEL, servers=("local", "big-box")),)
    done = shell("run", "Big-Box/nope:1b", "Hi")
    assert (done.code, done.out) == (1, "")
    assert "`localmodels pull nope:1b --server Big-Box` would fetch it there" in done.err
    assert "/api/pull" not in shell.server.paths
    assert shell("run", "somebody/nope", "Hi").code == 1
    assert "/api/pull" in shell.server.paths


def test_what_the_server_explains_is_said_and_looked_for_in_no_registry(shell: Shell) -> None:
    shell.server.pulls = True
    shell.server.why = "there is no server 'secnd'; 'second' has it: ask for 'm'"
    for done in (shell("run", "secnd/m", "Hi"), shell("run", "secnd/m", typed=["Hi"])):
        assert (done.code, done.out) == (1, "")
        assert done.err == f"Error: model 'secnd/m' not found: {shell.server.why}\n"
    shell.server.why = "the server 'second' is switched off"
    assert "switched off" in shell("run", "second/m", "Hi").err
    assert "/api/pull" not in shell.server.paths


@pytest.mark.parametrize("name", ["auto:code", "auto", "Auto:vision"])
def test_a_choice_that_there_is_not_is_looked_for_in_no_registry(shell: Shell, name: str) -> None:
    shell.server.pulls = True
    done = shell("run", name, "Hi")
    assert (done.code, done.err) == (1, f"Error: model '{name}' not found\n")
    assert "/api/pull" not in shell.server.paths


def test_a_slip_of_the_pen_is_not_pulled_but_told(shell: Shell) -> None:
    shell.server.pulls = True
    shell.server.models = tuple(replace(MODEL, name=name) for name in ("localmodels:latest", "smollm2:latest"))
    done = shell("run", "localmodel", "Hi")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "Error: model 'localmodel' not found: did you mean 'localmodels'? "
        "`localmodels pull localmodel` would fetch it, if it is a model\n"
    )
    assert shell("run", "localmodel", "Hi", "--no-pull").err.endswith("did you mean 'localmodels'?\n")
    assert "/api/pull" not in shell.server.paths


@pytest.mark.parametrize(
    ("there", "asked"),
    [("smollm2:latest", "smollm3"), ("smollm2:latest", "smollm2:360m"), ("mistral:7b", "mixtral"), ("m:latest", "n")],
)
def test_another_version_or_tag_is_another_model_and_pulled(shell: Shell, there: str, asked: str) -> None:
    shell.server.pulls = True
    shell.server.models = (replace(MODEL, name=there),)
    assert shell("run", asked, "Hi").out == "Hello\n"
    assert shell.server.library == [PullRequest(asked)]
