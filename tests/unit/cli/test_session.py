"""A conversation as a value: what each command changes, and what it says of one that cannot be."""

from __future__ import annotations

import pytest

from localmodels.cli.session import HELP, SET, Session, answered, command, request
from localmodels.core.chat import Format
from localmodels.core.options import Options

EMPTY = Session("m")


def after(*lines: str) -> Session:
    """The session after these commands."""
    session = EMPTY
    for line in lines:
        session = command(session, line).session
    return session


@pytest.mark.parametrize(
    ("lines", "session"),
    [
        (("/set system  Be kind. ",), Session("m", system="Be kind.")),
        (("/set system a", "/set system"), EMPTY),
        (("/set parameter temperature 0.5",), Session("m", options=Options(temperature=0.5))),
        (("/set parameter num_ctx 512", "/set parameter top_k 3"), Session("m", options=Options(num_ctx=512, top_k=3))),
        (("/set parameter stop <a> <b>",), Session("m", options=Options(stop=("<a>", "<b>")))),
        (("/set parameter kv_cache_type q8_0",), Session("m", options=Options(kv_cache_type="q8_0"))),
        (("/set parameter use_mmap false",), Session("m", options=Options(use_mmap=False))),
        (("/set format json",), Session("m", format=Format())),
        (('/set format {"type": "object"}',), Session("m", format=Format({"type": "object"}))),
        (("/set format json", "/set noformat"), EMPTY),
        (("/set think",), Session("m", think=True)),
        (("/set think high",), Session("m", think="high")),
        (("/set nothink",), Session("m", think=False)),
        (("/set keepalive 10m",), Session("m", keep_alive=600)),
        (("/set verbose",), Session("m", verbose=True)),
        (("/set verbose", "/set quiet"), EMPTY),
    ],
)
def test_set(lines: tuple[str, ...], session: Session) -> None:
    assert after(*lines) == session


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/set", "/set takes one of system"),
        ("/set nothing", "/set takes one of system"),
        ("/set parameter", "/set parameter NAME VALUE"),
        ("/set parameter logit_bias 1", "/set parameter NAME VALUE"),
        ("/set parameter temperature", "temperature: Randomness"),
        ("/set parameter temperature 9", "temperature must be between 0 and 2"),
        ("/set parameter temperature hot", "temperature must be a number"),
        ("/set parameter num_ctx 0.5", "num_ctx must be a whole number"),
        ("/set parameter use_mmap yes", "use_mmap must be true or false"),
        ("/set format xml", "a format is the word json"),
        ("/set think much", "thinking is one of true"),
        ("/set keepalive soon", "'soon' is not a duration"),
        ("/show nothing", "/show takes one of info"),
        ("/nothing", "There is no command /nothing"),
        ("/setsystem x", "There is no command /setsystem"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(line: str, said: str) -> None:
    outcome = command(EMPTY, line)
    assert outcome.say.startswith(said)
    assert (outcome.session, outcome.do) == (EMPTY, "go on")


@pytest.mark.parametrize(
    ("line", "do", "part"),
    [("/bye", "leave", ""), ("/exit", "leave", ""), ("/show", "show", "info"), ("/show license", "show", "license")],
)
def test_what_is_to_be_done(line: str, do: str, part: str) -> None:
    outcome = command(EMPTY, line)
    assert (outcome.do, outcome.part, outcome.say) == (do, part, "")


def test_help_names_every_setting() -> None:
    assert command(EMPTY, "/?").say == command(EMPTY, "/help").say == HELP
    assert [name for name in SET if f"/set {name}" not in HELP] == []


def test_clear_forgets_what_was_said_and_keeps_what_is_set() -> None:
    session = answered(after("/set system Be kind."), "Hi", "Ho")
    assert len(request(session, "?").messages) == 4
    assert command(session, "/clear").session == after("/set system Be kind.")
