"""What a power cut would lose, told from the order of the calls: a kill cannot show it, since the kernel lives on.

The rules, for whatever lies below ``blobs`` and ``manifests``: a file is synced after it was last written and before it
gets its name there; a manifest gets its name after the directory of the blobs was synced; and before the operation says
that it is done, every directory is synced after a name in it came or went. A journal's line comes after its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.crash.trace import Call

_WRITES = frozenset({"write", "pwrite64", "ftruncate"})
_SYNCS = frozenset({"fsync", "fdatasync"})
_RENAMES = frozenset({"rename", "renameat", "renameat2", "link", "linkat"})
_REMOVES = frozenset({"unlink", "unlinkat", "rmdir"})
_MAKES = frozenset({"mkdir", "mkdirat"})

# A descriptor with its path, then a file name; or a file name alone.
_PATH = re.compile(r'(?:(?P<base>-?\w+)<(?P<above>[^>]*)>, |(?P<cwd>AT_FDCWD), )?"(?P<name>[^"]*)"')
_FILE = re.compile(r"^\d+<(?P<path>[^>]*)>")


class Watch:
    """Follows the calls of one operation."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unsynced: set[Path] = set()  # files
        self._loose: set[Path] = set()  # directories in which a name came or went
        self._first: dict[Path, Path] = {}  # the other name under which a file was opened

    def broken(self, calls: Iterable[Call]) -> Iterator[str]:
        """The rules that they break."""
        for call in calls:
            if not call.result.startswith("-"):
                yield from self._see(call)
        for directory in sorted(self._loose):
            yield f"I4 {self._shown(directory)} was changed and not synced before it was said to be done"

    def _see(self, call: Call) -> Iterator[str]:
        own = _FILE.match(call.arguments)
        path = Path(own["path"]) if own else None
        if path and call.call in _WRITES:
            if self._counts(path):
                yield f"I3 {self._shown(path)} is written where readers look for it"
            if path.suffix == ".parts" and path.with_suffix("") in self._unsynced:
                yield f"I4 {self._shown(path)} vouches for bytes that are not on disk"
            self._unsynced.add(path)
        elif path and call.call in _SYNCS:
            self._unsynced.discard(path)
            self._loose.discard(path)
        elif call.call == "openat" and "O_CREAT" in call.arguments:
            self._changed(self._named(call)[0])
        elif call.call in _RENAMES:
            yield from self._renamed(*self._named(call))
        elif call.call in _REMOVES | _MAKES:
            self._changed(self._named(call)[0])

    def _renamed(self, source: Path, target: Path) -> Iterator[str]:
        if self._counts(target):
            if self._first.get(source, source) in self._unsynced:
                yield f"I4 {self._shown(target)} got its name before its content was synced"
            if self._is_manifest(target) and self._root / "blobs" in self._loose:
                yield f"I4 {self._shown(target)} got its name before its blobs' names were synced"
        self._changed(source)
        self._changed(target)
        # The descriptor keeps the name that it was opened by, so that is the name that a later sync is seen under.
        self._first[target] = self._first.get(source, source)

    def _changed(self, path: Path) -> None:
        if self._counts(path):
            self._loose.add(path.parent)

    def _counts(self, path: Path) -> bool:
        return any(self._root / top in (path, *path.parents) for top in ("blobs", "manifests"))

    def _is_manifest(self, path: Path) -> bool:
        return self._root / "manifests" in path.parents

    def _named(self, call: Call) -> list[Path]:
        """The paths that a call's arguments name."""
        found = _PATH.finditer(call.arguments)
        return [Path(one["above"] or "/") / one["name"] if one["above"] else Path(one["name"]) for one in found]

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self._root)) if self._root in path.parents else str(path)
