"""Cuts the text of a template into tokens. The rule: every character is looked at a bounded number of times.

Inside the braces this follows Go's scanner (text/template/parse/lex.go) down to what may follow a name; outside there
is only text, trimmed where a brace carries a trim marker (``{{-``, ``-}}``).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from localmodels.artifacts.gotemplate.limits import MOST_TOKENS, refuse

SPACE = " \t\r\n"
KEYWORDS = frozenset(
    {"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"}
)  # fmt: skip


class Kind(Enum):
    """What a token is, in the words of an error."""

    TEXT = "text"
    LEFT = "{{"
    RIGHT = "}}"
    FIELD = "a field"
    VARIABLE = "a variable"
    DOT = "."
    NAME = "a name"
    KEYWORD = "a keyword"
    NUMBER = "a number"
    CHARACTER = "a character"
    STRING = "a quoted text"
    RAW = "a text in backquotes"
    DECLARE = ":="
    ASSIGN = "="
    PIPE = "|"
    OPEN = "("
    CLOSE = ")"
    OTHER = "a sign"
    END = "the end of the template"


class Token(NamedTuple):
    """A piece of the template. ``spaced``: there is space before it."""

    kind: Kind
    text: str
    line: int
    spaced: bool = False

    @property
    def shown(self) -> str:
        """The token as an error names it."""
        return self.kind.value if self.kind in {Kind.END, Kind.TEXT} else f"'{self.text[:40]}'"


# In Go's order: ".5" is a number and ".x" a field, a sign belongs to a number or to nothing.
_TOKEN = re.compile(
    r"""
    (?P<FIELD>\.(?![0-9])\w+)
  | (?P<VARIABLE>\$\w*)
  | (?P<NUMBER>(?:[+-]|(?=\.?[0-9]))
        (?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
          |(?:0[oO][0-7_]*|0[bB][01_]*|[0-9_]*)(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?)
  | (?P<NAME>\w+)
  | (?P<DOT>\.)
  | (?P<STRING>"(?:[^"\\\n]|\\[^\n])*")
  | (?P<RAW>`[^`]*`)
  | (?P<CHARACTER>'(?:[^'\\\n]|\\[^\n])*')
  | (?P<DECLARE>:=)
  | (?P<ASSIGN>=)
  | (?P<PIPE>\|)
  | (?P<OPEN>\()
  | (?P<CLOSE>\))
  | (?P<OTHER>[!-~])
    """,
    re.VERBOSE,
)
_SPACES = re.compile(r"[ \t\r\n]*")
_RIGHT = re.compile(r"(?P<trim>[ \t\r\n]-)?\}\}")
_COMMENT = re.compile(r"(?:-[ \t\r\n])?/\*")
_AFTER_NAME = re.compile(r"[ \t\r\n.,|:)(]|\}\}|\Z")
_NAMES = frozenset({"FIELD", "VARIABLE", "NAME", "DOT"})
_UNCLOSED = {
    '"': "a quoted text is not closed",
    "`": "a text in backquotes is not closed",
    "'": "a character is not closed",
}


def tokens(source: str) -> list[Token]:
    """All tokens, the last of kind ``END``.

    Raises:
        InvalidRequest: something that no template can hold, or too many tokens.
    """
    return _Lexer(source).run()


def _after_space(source: str, at: int) -> int:
    match = _SPACES.match(source, at)
    return match.end() if match else at


class _Lexer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens: list[Token] = []
        self._line = 1
        self._counted = 0  # up to here the lines are counted

    def run(self) -> list[Token]:
        source, at, trim = self._source, 0, False
        while True:
            at = _after_space(source, at) if trim else at
            start = source.find("{{", at)
            if start < 0:
                self._text(source[at:], at)
                self._add(Kind.END, "", len(source))
                return self._tokens
            opening = source[start + 2 : start + 4]
            trims_left = opening[:1] == "-" and opening[1:] in SPACE and len(opening) == 2
            text = source[at:start]
            self._text(text.rstrip(SPACE) if trims_left else text, at)
            if _COMMENT.match(source, start + 2):
                at, trim = self._comment(start)
            else:
                self._add(Kind.LEFT, "{{", start)
                at, trim = self._action(start + (4 if trims_left else 2), start)

    def _text(self, text: str, at: int) -> None:
        if text:
            self._add(Kind.TEXT, text, at)

    def _add(self, kind: Kind, text: str, at: int, *, spaced: bool = False) -> None:
        if len(self._tokens) >= MOST_TOKENS:
            refuse(self._line_at(at), f"more than {MOST_TOKENS} words and signs in one template")
        self._tokens.append(Token(kind, text, self._line_at(at), spaced))

    def _line_at(self, at: int) -> int:
        self._line += self._source.count("\n", self._counted, at)
        self._counted = max(at, self._counted)
        return self._line

    def _comment(self, start: int) -> tuple[int, bool]:
        end = self._source.find("*/", self._source.index("/*", start) + 2)
        if end < 0:
            refuse(self._line_at(start), "the comment is not closed; expected '*/}}'")
        right = _RIGHT.match(self._source, end + 2)
        if right is None:
            refuse(self._line_at(start), "expected '}}' right after the '*/' of a comment")
        return right.end(), right["trim"] is not None

    def _action(self, at: int, start: int) -> tuple[int, bool]:
        """The tokens up to the closing braces; gives what follows them and whether they trim it."""
        source, depth = self._source, 0
        while True:
            after = _after_space(source, at)
            # A trim marker needs the space before it.
            right = _RIGHT.match(source, after - 1 if after > at and source[after : after + 1] == "-" else after)
            if right is not None:
                if depth:
                    refuse(self._line_at(after), "a '(' is not closed; expected ')' before '}}'")
                self._add(Kind.RIGHT, "}}", after, spaced=after > at)
                return right.end(), right["trim"] is not None
            if after >= len(source):
                refuse(self._line_at(start), "an action is not closed; expected '}}'")
            depth, at = self._token(after, depth, spaced=after > at)

    def _token(self, at: int, depth: int, *, spaced: bool) -> tuple[int, int]:
        match = _TOKEN.match(self._source, at)
        if match is None:
            refuse(self._line_at(at), f"{self._source[at]!r} means nothing inside of braces")
        kind, text = str(match.lastgroup), match[0]
        depth += (kind == "OPEN") - (kind == "CLOSE")
        if depth < 0:
            refuse(self._line_at(at), "a ')' without its '('")
        follower = self._source[match.end() : match.end() + 1]
        if kind in _NAMES and not _AFTER_NAME.match(self._source, match.end()):
            refuse(self._line_at(at), f"{follower!r} may not follow {text[:40]!r}; expected a space or '}}}}'")
        if kind == "NUMBER" and (text.endswith("i") or follower in {"+", "-"}):
            refuse(self._line_at(at), f"complex numbers ({text[:40]}{follower}) are not supported")
        if kind == "NUMBER" and (follower.isalnum() or follower == "_"):
            refuse(self._line_at(at), f"{text[:40]}{follower} is not a number")
        if kind == "OTHER" and text in _UNCLOSED:
            refuse(self._line_at(at), _UNCLOSED[text])
        if kind == "OTHER" and text == ":":
            refuse(self._line_at(at), "a ':' alone; expected ':='")
        known = Kind.KEYWORD if kind == "NAME" and text in KEYWORDS else Kind[kind]
        self._add(known, text, at, spaced=spaced)
        return depth, match.end()
