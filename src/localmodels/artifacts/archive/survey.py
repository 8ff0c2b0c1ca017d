"""The first walk over an archive: every entry is looked at, and what will come out is decided. Writes nothing.

The rule: the first bad entry refuses the whole archive, so what comes out of the second walk is all or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from localmodels.artifacts.archive.kinds import BEGINNING, check_content
from localmodels.artifacts.archive.limits import check_entries, check_quota
from localmodels.artifacts.archive.reading import Body, Member
from localmodels.artifacts.file_names import Names, Parts, checked_name, checked_parts, shown, top_folder
from localmodels.artifacts.model_files import fate, is_noise, passed_over_inside
from localmodels.core.errors import InvalidRequest

_MOST_NAMED = 5  # of the files passed over for one reason


class Survey(Struct, frozen=True):
    """What was found.

    Attributes:
        names: for every entry in the order of the walk, under what it comes out; empty: not at all.
        members: the entries themselves.
        notes: what was passed over, in sentences.
    """

    names: tuple[str, ...]
    members: tuple[Member, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> int:
        """How many come out."""
        return sum(map(bool, self.names))

    @property
    def size(self) -> int:
        """Bytes that come out."""
        return sum(member.size for member, name in zip(self.members, self.names, strict=True) if name)


class _Entry(Struct, frozen=True):
    """An entry that was looked at; ``why`` it is passed over, empty for one that is taken."""

    member: Member
    parts: Parts
    why: str


def survey(walk: Iterable[tuple[Member, Body]], most_bytes: int) -> Survey:
    """Looks at all entries.

    Args:
        walk: over the archive.
        most_bytes: that may come out.

    Raises:
        InvalidRequest: an entry is not sound or has no good name, or there is nothing of a model.
        Unsupported: an entry is what is never taken.
        TooLarge: there are too many, or too many bytes.
    """
    names = Names()
    entries: list[_Entry] = []
    size = 0
    for member, body in walk:
        parts = checked_parts(member.name)
        names.add(parts, folder=member.folder)
        check_quota(member.size, most_bytes)
        if member.folder:
            why = _FOLDER
        elif parts:
            why = _look(member, parts, body)
        else:
            raise InvalidRequest(f"{shown(member.name)} is no name of a file")
        entries.append(_Entry(member, parts, why))
        check_entries(len(entries))
        size += 0 if why else member.size
        check_quota(size, most_bytes)
    return _decided(entries)


_FOLDER = "a folder"


def _look(member: Member, parts: Parts, body: Body) -> str:
    """Why a file is passed over; empty if it is not."""
    decided = fate(parts)
    if not decided.unread:
        beginning = bytearray()
        while len(beginning) < BEGINNING and (data := body.read(BEGINNING - len(beginning))):
            beginning += data
        check_content("/".join(parts), bytes(beginning), member.size)
    return decided.why


def _decided(entries: list[_Entry]) -> Survey:
    top = top_folder(entry.parts for entry in entries if not entry.member.folder and not is_noise(entry.parts))
    taken: list[str] = []
    passed_over: dict[str, list[str]] = {}
    for entry in entries:
        parts = entry.parts[1:] if top and entry.parts[:1] == (top,) else entry.parts
        why = entry.why or passed_over_inside(parts)
        if why and why != _FOLDER:
            passed_over.setdefault(why, []).append("/".join(parts))
        taken.append("" if why else checked_name("/".join(parts)))
    notes = tuple(_note(why, names) for why, names in passed_over.items())
    if not any(taken):
        raise InvalidRequest(
            "the archive holds nothing of a model; put config.json, the tokenizer's files and *.safetensors (or one "
            f"*.gguf) into it{''.join(f'; {note}' for note in notes)}"
        )
    return Survey(tuple(taken), tuple(entry.member for entry in entries), notes)


def _note(why: str, names: list[str]) -> str:
    """``passed over as what a trainer leaves: optimizer.pt, scheduler.pt and 3 more``."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"passed over as {why}: {', '.join(names[:_MOST_NAMED])}{more}"
