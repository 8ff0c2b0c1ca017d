"""Reads ``WWW-Authenticate``: what a registry wants to see before it answers. Pure.

The rule: a challenge is a wish. It is read strictly, and whether it is granted is decided in ``auth``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

# RFC 9110, 11.2 and 11.6.1: a scheme, then name=value or name="value" separated by commas.
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?=[ \t,]|$)")
_PARAM = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_ESCAPE = re.compile(r"\\(.)")


class Challenge(Struct, frozen=True):
    """One way to say who we are. ``scheme`` in lower case; ``scopes`` as the registry lists them."""

    scheme: str
    realm: str = ""
    service: str = ""
    scopes: tuple[str, ...] = ()


def read_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Every challenge in these header values, in their order; what cannot be read ends its header."""
    return tuple(challenge for header in headers for challenge in _read(header))


def _read(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = 0
    while scheme := _SCHEME.match(text, at):
        at = scheme.end()
        params: dict[str, str] = {}
        while param := _PARAM.match(text, at):
            name, quoted, plain = param.groups()
            # The first of two equal names wins, so that nothing appended to a header changes what it said.
            params.setdefault(name.lower(), _ESCAPE.sub(r"\1", quoted) if quoted is not None else plain)
            at = param.end()
        found.append(
            Challenge(
                scheme[1].lower(),
                params.get("realm", ""),
                params.get("service", ""),
                tuple(params.get("scope", "").split()),
            )
        )
    return found
