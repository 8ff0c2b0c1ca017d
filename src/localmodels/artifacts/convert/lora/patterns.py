r"""The patterns by which ``rank_pattern`` and ``alpha_pattern`` name modules: to PEFT, regular expressions.

A stranger's expression may take for ever in Python's matcher. Nearly all are plain names or their ends, so only those
parts of the language are read here that occur: characters, ``.``, ``.*``, ``.+``, ``\d``, ``\d+``, ``[0-9]+``, and
any of these escaped. The rule: time is the length of the name times that of the pattern, and what else stands in a
pattern is refused with the pattern in the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from localmodels.core.errors import Unsupported

LONGEST = 256
_PART = re.compile(r"(?P<digit>\\d|\[0-9\])|\\(?P<escaped>[^\w\s])|(?P<any>\.)|(?P<plain>[\w\-:/])")


class _Part(Struct, frozen=True):
    """One character of a name, or with ``many`` any number of them, at least ``least``."""

    fits: Callable[[str], bool]
    many: bool = False
    least: int = 1


def matching(patterns: Iterable[str], name: str) -> str | None:
    """The first pattern that fits the whole name, or what stands after one of its dots.

    Raises:
        Unsupported: a pattern says more than is read here.
    """
    return next((pattern for pattern in patterns if fits(pattern, name)), None)


def fits(pattern: str, name: str) -> bool:
    """Does it fit the whole name, or what stands after one of its dots?

    Raises:
        Unsupported: it says more than is read here.
    """
    parts = tuple(_parts(pattern))
    at = {0, *(index + 1 for index, char in enumerate(name) if char == ".")}
    if pattern.startswith("^"):
        at = {0}
    for part in parts:
        at = set(_after(part, name, at))
    return len(name) in at


def _after(part: _Part, name: str, starts: set[int]) -> Iterator[int]:
    reach = 0  # places up to here were reached already
    for start in sorted(starts):
        end = start
        if part.many and not part.least:
            yield start
        while end < len(name) and part.fits(name[end]) and (part.many or end == start):
            end += 1
            if end > reach or not part.many:
                yield end
            elif end < reach:
                break
        reach = max(reach, end)


def _parts(pattern: str) -> Iterator[_Part]:
    text = pattern.removeprefix("^").removesuffix("$")
    if not text or len(text) > LONGEST:
        raise _unreadable(pattern)
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            raise _unreadable(pattern)
        at = found.end()
        many = text[at : at + 1] in {"*", "+"}
        yield _Part(_fit(found), many, 0 if many and text[at] == "*" else 1)
        at += many


def _fit(found: re.Match[str]) -> Callable[[str], bool]:
    if found["digit"]:
        return str.isdecimal
    if found["any"]:
        return lambda _: True
    return (found["escaped"] or found["plain"]).__eq__


def _unreadable(pattern: str) -> Unsupported:
    return Unsupported(
        f"adapter_config.json: the pattern {pattern!r:.200} is not read here; name modules, as 'layers.0.mlp.up_proj'"
    )
