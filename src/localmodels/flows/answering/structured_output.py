"""Answers that must be JSON, looked at on their way out.

llama.cpp's route for raw texts goes on without a grammar when it cannot compile the schema, and says nothing. So what
comes is read along, each character once; an answer that is no JSON ends with an error instead of a success.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from localmodels.core.chat import Chunk, Done, Event
from localmodels.core.errors import EngineError

Stream = AsyncGenerator[list[Event], None]


async def kept(stream: Stream) -> Stream:
    """The events of an answer that must be JSON.

    Raises:
        EngineError: it is none, or it ends of itself before it is whole. What was handed on before is no answer.
    """
    said = JsonText()
    async with aclosing(stream) as events:
        async for some in events:
            sound = all(said.feed(event.text) for event in some if isinstance(event, Chunk))
            ended = any(isinstance(event, Done) and event.reason == "stop" for event in some)
            if not sound or (ended and not said.whole):
                raise EngineError("the engine could not keep to this format; a simpler schema may help")
            yield some


Expects = Literal["value", "value or ]", "key", "key or }", ":", "more", "end"]
Inside = Literal["", "string", "number", "word"]

_SPACE = " \t\r\n"
_WORDS = {"t": "rue", "f": "alse", "n": "ull"}
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPED = frozenset('"\\/bfnrt')
_HEX = frozenset("0123456789abcdefABCDEF")
# Where in a number one is, by the sign that may come next. "d" stands for any digit, "e" for E as well.
_NUMBER = {
    "-": {"0": "zero", "d": "whole"},
    "zero": {".": ".", "e": "e"},
    "whole": {"d": "whole", ".": ".", "e": "e"},
    ".": {"d": "fraction"},
    "fraction": {"d": "fraction", "e": "e"},
    "e": {"+": "e+", "-": "e+", "d": "exponent"},
    "e+": {"d": "exponent"},
    "exponent": {"d": "exponent"},
}
_NUMBER_ENDS = frozenset({"zero", "whole", "fraction", "exponent"})
# What is expected and what is read, to what is expected then.
_SIGNS: dict[tuple[Expects, str], Expects] = {
    ("value", "{"): "key or }",
    ("value or ]", "{"): "key or }",
    ("value", "["): "value or ]",
    ("value or ]", "["): "value or ]",
    (":", ":"): "value",
}


class JsonText:
    """A text that comes in pieces: is it JSON so far, and is it whole? Any depth, any length, one look at each sign."""

    def __init__(self) -> None:
        self._open: list[str] = []  # brackets that must be closed
        self._expects: Expects = "value"
        self._inside: Inside = ""
        self._state = ""  # where in a number; what is left of a word; what is open of an escape in a string
        self._sound = True

    @property
    def whole(self) -> bool:
        """Could the text end here?"""
        at_end = self._expects == "end" and not self._open
        return self._sound and at_end and (not self._inside or (self._inside == "number" and self._number_may_end))

    def feed(self, text: str) -> bool:
        """Reads on. False once it is no JSON any more, whatever may come."""
        at = 0
        while self._sound and at < len(text):
            if not self._inside:
                at = self._between(text, at)
            elif self._inside == "string":
                at = self._in_string(text, at)
            elif self._inside == "number":
                at = self._in_number(text, at)
            else:
                self._sound = text[at] == self._state[0]
                self._state = self._state[1:]
                self._inside = "word" if self._state else ""
                at += 1
        return self._sound

    @property
    def _number_may_end(self) -> bool:
        return self._state in _NUMBER_ENDS

    def _between(self, text: str, at: int) -> int:
        sign = text[at]
        if sign in _SPACE:
            return at + 1
        after = _SIGNS.get((self._expects, sign))
        if after is not None:
            self._expects = after
            if sign in "{[":
                self._open.append(sign)
        elif self._expects in {"value", "value or ]"} and self._begins(sign):
            self._expects = "more" if self._open else "end"
        elif sign == '"' and self._expects in {"key", "key or }"}:
            self._inside, self._state, self._expects = "string", "", ":"
        elif self._open and sign == "," and self._expects == "more":
            self._expects = "key" if self._open[-1] == "{" else "value"
        elif self._open and (self._open[-1] + sign, self._expects) in _CLOSES:
            self._open.pop()
            self._expects = "more" if self._open else "end"
        else:
            self._sound = False
        return at + 1

    def _begins(self, sign: str) -> bool:
        """Does a text, a number or a word begin here?"""
        if sign == '"':
            self._inside, self._state = "string", ""
        elif sign in _WORDS:
            self._inside, self._state = "word", _WORDS[sign]
        elif sign == "-" or (sign.isascii() and sign.isdigit()):
            self._inside, self._state = "number", {"-": "-", "0": "zero"}.get(sign, "whole")
        else:
            return False
        return True

    def _in_string(self, text: str, at: int) -> int:
        sign = text[at]
        if self._state == "\\":
            self._state = "u" if sign == "u" else ""
            self._sound = sign == "u" or sign in _ESCAPED
        elif self._state:  # "u" and the digits after it
            self._sound = sign in _HEX
            self._state = self._state + sign if len(self._state) < 4 else ""
        elif sign == "\\":
            self._state = sign
        elif sign == '"':
            self._inside = ""
        else:
            end = _PLAIN.match(text, at).end()  # type: ignore[union-attr]  # matches nothing, too
            self._sound = end > at
            return end
        return at + 1

    def _in_number(self, text: str, at: int) -> int:
        sign = text[at]
        kind = "d" if sign.isascii() and sign.isdigit() else sign.lower()
        following = _NUMBER[self._state]
        if (after := following.get(sign) or following.get(kind)) is not None:
            self._state = after
            return at + 1
        self._sound = self._number_may_end
        self._inside = ""
        return at  # this sign is what comes after the number


_CLOSES = frozenset({("{}", "more"), ("{}", "key or }"), ("[]", "more"), ("[]", "value or ]")})
