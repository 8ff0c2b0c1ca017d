"""The files that start a server at boot are ones that systemd and launchd can read, and name what there is."""

from __future__ import annotations

import configparser
import plistlib
import re
import shlex

import pytest
from tests.docs.pages import DOCS

from localmodels.cli.commands import VERBS, load, parser_of
from localmodels.server.listeners import BACKLOG

PAGE = (DOCS / "how-to" / "three-boxes.md").read_text()
PROGRAM = "/.venv/bin/localmodels"


def block(language: str, *, begins: str = "") -> str:
    """The page's only block of this language that begins so."""
    (text,) = re.findall(rf"^```{language}\n({re.escape(begins)}.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def unit(kind: str = "service") -> configparser.ConfigParser:
    """A unit of systemd."""
    read = configparser.ConfigParser(interpolation=None, strict=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(block("ini", begins=f"# /etc/systemd/system/localmodels.{kind}\n"))
    return read


def commands() -> dict[str, list[str]]:
    """What each of the two starts."""
    started = plistlib.loads(block("xml").encode())["ProgramArguments"]
    return {"systemd": shlex.split(unit()["Service"]["ExecStart"]), "launchd": started}


@pytest.mark.parametrize("by", ["systemd", "launchd"])
def test_what_is_started_is_a_command_that_is_understood(by: str) -> None:
    program, verb, *rest = commands()[by]
    assert (program.endswith(PROGRAM), verb) == (True, "serve")
    assert parser_of(VERBS[verb], load(VERBS[verb])).parse_args(rest).home.startswith("/")


def test_a_unit_lets_answers_end_and_comes_back_after_a_failure() -> None:
    read = unit()
    service = read["Service"]
    assert read.sections() == ["Unit", "Service", "Install"]
    assert (service["Type"], service["KillMode"], service["Restart"]) == ("notify", "mixed", "on-failure")
    assert int(service["TimeoutStopSec"]) > 30  # drain_timeout, and what runners take to end
    daemon = plistlib.loads(block("xml").encode())
    assert (daemon["RunAtLoad"], daemon["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert daemon["ExitTimeOut"] == int(service["TimeoutStopSec"])


def test_the_socket_is_the_address_of_the_page_and_has_the_line_of_the_server() -> None:
    opened = unit("socket")
    assert opened.sections() == ["Unit", "Socket", "Install"]
    assert f"`{opened['Socket']['ListenStream']}`" in PAGE
    assert int(opened["Socket"]["Backlog"]) == BACKLOG
    assert opened["Socket"]["FreeBind"] == "true", "at boot the network's address comes later than the socket"


def test_keys_are_made_in_the_home_that_the_unit_serves() -> None:
    home = commands()["systemd"][-1]
    assert f"keys add gateway --scopes infer,list,manage --home {home} > gateway.key\n" in PAGE
    assert f"`{home}/localmodels.toml`" in PAGE
