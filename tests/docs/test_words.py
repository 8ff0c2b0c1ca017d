"""Commands, flags and variables that the pages name are ones that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import examples, guides, named, pages, prose

from localmodels.cli.commands import VERBS, find, joined, load, parser_of
from localmodels.client.site import HOST_NAMES
from localmodels.config import SETTINGS

_COMMAND = re.compile(r"^\s*(?:\$ |[A-Z_]+=\S+ )*localmodels ([^|#>\n]+)", re.MULTILINE)
_FLAG = re.compile(r"`(?:localmodels [^`]*?)?(--[a-z][a-z-]*)")
_VARIABLE = re.compile(r"`((?:LOCALMODELS|OLLAMA)_[A-Z_]+)")
# Read by the client, by the file's finder and by tests; OLLAMA_FLASH_ATTENTION stands for those that have no effect.
_BESIDES = {
    *HOST_NAMES,
    "LOCALMODELS_API_KEY",
    "OLLAMA_API_KEY",
    "LOCALMODELS_CONFIG",
    "LOCALMODELS_SIMULATION_EVENTS",
    "OLLAMA_FLASH_ATTENTION",
}


def commands(page: Path) -> Iterator[list[str]]:
    """The words after ``localmodels`` in the examples of a page; a command of several lines is one."""
    for example in examples(page):
        for words in _COMMAND.findall(example.code.replace("\\\n", " ")):
            yield shlex.split(words.rstrip("&) "))


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_command_is_understood(page: Path) -> None:
    for name, *rest in commands(page):
        verb = find(name)
        assert verb is not None, name
        parser_of(verb, load(verb)).parse_intermixed_args(joined(rest))


@pytest.mark.parametrize("page", guides(), ids=named)
def test_every_flag_is_one_that_a_verb_has(page: Path) -> None:
    helps = "".join(parser_of(verb, load(verb)).format_help() for verb in VERBS.values())
    known = set(re.findall(r"--[a-z][a-z-]*", helps))
    assert set(_FLAG.findall(prose(page))) - known == set()


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_variable_is_one_that_is_read(page: Path) -> None:
    known = {word for setting in SETTINGS.values() for word in setting.environment} | _BESIDES
    named_here = {word for word in _VARIABLE.findall(page.read_text()) if not word.endswith("_")}
    assert named_here - known == set()
