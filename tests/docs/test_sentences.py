"""The sentences that the troubleshooting page explains are ones that the program says."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import DOCS, ROOT

_SENTENCE = re.compile(r"\*\*`([^`]+)`\*\*")
_CHANGING = re.compile(r"…|'[^']*'|\d[\d.]*|/\S+|[.:;]? *$")  # names, figures and what is left out
_JOINT = re.compile(r'"\s*\n\s*f?"')  # of two pieces of one text in the code
TELLING = 8  # characters; shorter pieces stand in many places
SENTENCES = _SENTENCE.findall((DOCS / "how-to" / "troubleshooting.md").read_text())


@pytest.fixture(scope="module")
def code() -> str:
    files = [*sorted((ROOT / "src").rglob("*.py")), ROOT / "tools" / "setup"]
    return "\n".join(_JOINT.sub("", path.read_text()) for path in files)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_is_one_that_is_said(sentence: str, code: str) -> None:
    pieces = [piece.strip(" ,") for piece in _CHANGING.split(" ".join(sentence.split()))]
    assert any(len(piece) > TELLING and piece in code for piece in pieces), pieces


def test_there_are_sentences() -> None:
    assert len(SENTENCES) >= 20
