"""Which names of a model's files are good. Pure; whoever sends, unpacks or writes such files asks here.

The rule: a name is good or the archive is refused. Nothing is taken off, replaced or escaped to make it so, because
what a name was mended to is what an attacker chose. A good name means the same file on every system and under every
join: no ``..``, no root, no drive, and no second spelling (case, Unicode's composed and wide forms) of another.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from localmodels.core.errors import InvalidRequest

DEEPEST = 4  # parts of a name: transformers and sentence-transformers write 2
LONGEST_NAME = 512  # bytes of UTF-8, all parts
_LONGEST_PART = 255  # bytes: what file systems allow
_MOST_PARTS = 8  # of an entry that may be passed over, or whose top folder is taken off
_SHOWN = 80

_FORBIDDEN = frozenset('\\:*?"<>|')  # what means something to Windows: another separator, drives, streams, patterns
_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}) | frozenset(
    f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"
)
_RIGHT = "name files relative to the model's folder, as config.json or 1_Pooling/config.json"

Parts = tuple[str, ...]


def shown(name: str) -> str:
    """A stranger's name for an error: quoted, without anything that a terminal obeys, not too long.

    >>> print(shown("../evil"))
    '../evil'
    """
    text = ascii(name) if not name.isprintable() else repr(name)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 2]}…'"


def checked_name(name: str) -> str:
    """The name, if a file of a model may have it.

    Args:
        name: relative to the model's folder, with ``/``.

    Raises:
        InvalidRequest: it may not.
    """
    parts = checked_parts(name)
    if "/".join(parts) != name:
        raise InvalidRequest(f"{shown(name)} is no plain name of a file; {_RIGHT}")
    if len(parts) > DEEPEST:
        raise InvalidRequest(f"{shown(name)} lies {len(parts)} folders deep, at most {DEEPEST} are allowed; {_RIGHT}")
    return name


def checked_parts(name: str) -> Parts:
    """The parts of an entry's name: ``./a/b/`` is a and b; none if it is the folder that was packed itself (``./``).

    Raises:
        InvalidRequest: the name could mean something outside of the folder, or two things.
    """
    if len(name) > LONGEST_NAME or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise InvalidRequest(f"{shown(name)}: names have at most {LONGEST_NAME} bytes; {_RIGHT}")
    left = name
    while left.startswith("./"):
        left = left[2:]
    left = left.removesuffix("/")
    if left in {"", "."} and name not in {"", "/"}:
        return ()
    parts = tuple(left.split("/"))
    wide = unicodedata.normalize("NFKC", left)  # as some file systems and programs read it: ．．／ is ../
    if wide.count("/") != left.count("/"):
        raise InvalidRequest(f"{shown(name)} has a character that stands for /; {_RIGHT}")
    for part in (*parts, *wide.split("/")):
        wrong = _wrong(part)
        if wrong:
            raise InvalidRequest(f"{shown(name)} {wrong}; {_RIGHT}")
    if len(parts) > _MOST_PARTS:
        raise InvalidRequest(f"{shown(name)} lies {len(parts)} folders deep; {_RIGHT}")
    return parts


def _wrong(part: str) -> str:
    """What is wrong with one part of a name; empty if nothing is."""
    if not part:
        return "is absolute or has an empty part"
    if part in {".", ".."}:
        return f"has {part!r} as a part, which leads elsewhere"
    found = next((char for char in part if char in _FORBIDDEN or not char.isprintable()), "")
    if found:
        return f"has a character that names must not have ({found!a})"
    if part != part.strip() or part.endswith("."):
        return "has a part that begins or ends with a space, or ends with a dot"
    if part.startswith("~"):
        return "has a part that begins with ~, which stands for a home directory"
    if part.partition(".")[0].rstrip().upper() in _DEVICES:
        return "has the name of a device on Windows"
    if len(part.encode()) > _LONGEST_PART:
        return f"has a part of more than {_LONGEST_PART} bytes"
    return ""


def folded(name: str) -> str:
    """What two names have in common that some file system takes for one: case and Unicode's forms do not count.

    >>> folded("Ｃonfig.JSON") == folded("config.json")
    True
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


class Names:
    """The names of one archive so far; a file is there once, in one spelling, and is no folder of another."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, bool]] = {}
        self._files: set[str] = set()

    def add(self, parts: Parts, *, folder: bool) -> None:
        """One more entry; folders may come again and again, and need not come at all.

        Raises:
            InvalidRequest: it cannot be beside those that are there.
        """
        for depth in range(1, len(parts)):
            self._add("/".join(parts[:depth]), folder=True)
        if parts:
            self._add("/".join(parts), folder=folder)

    def _add(self, name: str, *, folder: bool) -> None:
        key = folded(name)
        other, was_folder = self._seen.setdefault(key, (name, folder))
        if other != name:
            raise InvalidRequest(
                f"{shown(name)} and {shown(other)} differ in case or Unicode form alone, so they are one file on some "
                "systems; keep one of them"
            )
        if was_folder != folder:
            raise InvalidRequest(f"{shown(name)} is a file and a folder at once; keep one of them")
        if not folder and key in self._files:
            raise InvalidRequest(f"{shown(name)} is there twice; keep one of them")
        if not folder:
            self._files.add(key)


def top_folder(files: Iterable[Sequence[str]]) -> str:
    """The folder that all of these files lie in (``model/config.json``), empty if there is none such.

    >>> top_folder([("m", "config.json"), ("m", "1_Pooling", "config.json")])
    'm'
    >>> top_folder([("1_Pooling", "config.json"), ("config.json",)])
    ''
    """
    tops = {parts[0] if len(parts) > 1 else "" for parts in files}
    return tops.pop() if len(tops) == 1 else ""
