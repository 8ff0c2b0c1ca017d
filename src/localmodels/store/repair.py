"""Puts right what can be put right in a store.

The rule: nothing that may be of use to anybody is deleted. What is damaged goes to ``quarantine``, under the path that
it had; only what dead writers left is removed. Each finding is looked at again, under the lock, before it is touched.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from msgspec import Struct

from localmodels.core.errors import ModelDamaged
from localmodels.store.check import Finding, Kind, check
from localmodels.store.folders import Folder, disk_errors
from localmodels.store.layout import PARTIALS, QUARANTINE, Layout, digest_of
from localmodels.store.leases import living
from localmodels.store.lock import StoreLock
from localmodels.store.partials import clear_partial
from localmodels.store.pieces import Progress, no_progress
from localmodels.store.published import sweep_unfinished
from localmodels.store.seals import Seals
from localmodels.store.soundness import read_content
from localmodels.store.stocktaking import seen_as

# A download that was given up a week ago is begun anew rather than gone on with.
PARTIAL_AGE = 7 * 86_400.0

Action = Literal["quarantined", "removed", "left"]


class Repaired(Struct, frozen=True):
    """What became of a finding; ``note`` says where it is now, or what is to be done about it."""

    finding: Finding
    action: Action
    note: str = ""


@disk_errors()
def repair(
    layout: Layout, lock: StoreLock, *, read_data: bool = False, progress: Progress = no_progress
) -> tuple[Repaired, ...]:
    """Checks, then puts right what can be.

    Returns: what became of each finding. A model whose blob is missing or was put into quarantine is whole again once
    it is pulled or created again.
    """
    layout.prepare()
    stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
    done = []
    for finding in check(layout, lock, read_data=read_data, progress=progress):
        prepared = _PREPARED.get(finding.kind, _as_found)(layout, finding)
        with lock.held():
            done.append(_ACTIONS[prepared.kind](layout, finding, stamp))
    return tuple(done)


@disk_errors()
def recover(layout: Layout, lock: StoreLock, *, age: float = PARTIAL_AGE, now: float | None = None) -> tuple[str, ...]:
    """To be called when the program starts: removes what dead writers left, and downloads that were given up.

    Returns: what was removed, as paths below the store's root.
    """
    before = ((time.time() if now is None else now) - age) * 1e9
    layout.prepare()
    gone = [finding.path for finding in check(layout, lock) if finding.kind == "leftover"]
    with lock.held():
        _clear_leases(layout)
        with layout.partials() as partials:
            old = [file for file in partials.names() if _given_up(layout, partials, file, before)]
            gone += ["/".join((*PARTIALS, file)) for file in old if clear_partial(partials, file)]
            _clear_journals(partials)
        Seals(layout).sweep()
        sweep_unfinished(layout)
    return tuple(gone)


def _as_found(_layout: Layout, finding: Finding) -> Finding:
    return finding


def _hashed(layout: Layout, finding: Finding) -> Finding:
    """A blob of another size than a manifest says: its content tells which of the two is wrong."""
    with suppress(OSError, ModelDamaged):
        content = read_content(layout, finding.digest) if finding.digest is not None else None
        if content is not None and content.digest == finding.digest:
            return Finding("missing blob", finding.where, finding.why)
    return finding


def _quarantine(layout: Layout, finding: Finding, stamp: str) -> Repaired:
    """Moves it, whatever it is, under the same path below ``quarantine``."""
    *above, last = finding.where
    if finding.seen is None:
        return Repaired(finding, "left", "put a directory in its place; nothing below it can be used")
    with layout.listed(*above) as folder:
        status = folder.look(last)
        if status is None or seen_as(status) != finding.seen:
            return Repaired(finding, "left", "it has changed meanwhile")
        with layout.quarantine(stamp, *above) as target:
            folder.move(last, target, last)
            target.sync()
        folder.sync()
    return Repaired(finding, "quarantined", "/".join((QUARANTINE, stamp, *finding.where)))


def _clear(layout: Layout, finding: Finding, _stamp: str) -> Repaired:
    _clear_leases(layout)
    with layout.partials() as partials:
        _clear_journals(partials)
    return Repaired(finding, "removed")


def _leave(note: str) -> Callable[[Layout, Finding, str], Repaired]:
    def left(_layout: Layout, finding: Finding, _stamp: str) -> Repaired:
        return Repaired(finding, "left", note)

    return left


_PREPARED: Mapping[Kind, Callable[[Layout, Finding], Finding]] = {"wrong size": _hashed}
_ACTIONS: Mapping[Kind, Callable[[Layout, Finding, str], Repaired]] = {
    "damaged manifest": _quarantine,
    "missing blob": _leave("pull or create the model again"),
    "wrong size": _quarantine,
    "wrong content": _quarantine,
    "stray": _quarantine,
    "case twin": _leave("delete one of the two"),
    "orphan": _leave("gc collects it"),
    "leftover": _clear,
    "partial": _leave("a pull goes on with it; gc --partial removes it"),
    "unfinished": _leave("Ollama finishes or removes it"),
}


def _clear_leases(layout: Layout) -> None:
    """Looking for the living clears the dead away."""
    for _token, _claim in living(layout):
        pass


def _given_up(layout: Layout, partials: Folder, file: str, before: float) -> bool:
    """Is it a partial blob that is finished otherwise, or that nobody has written to since ``before``?"""
    digest = digest_of(file)
    if digest is None:
        return False
    with suppress(ModelDamaged):  # a link is for a repair to deal with
        status = partials.status(file)
        with layout.blobs() as blobs:
            return status is not None and (status.st_mtime_ns < before or blobs.status(file) is not None)
    return False


def _clear_journals(partials: Folder) -> None:
    """Removes journals whose blob is finished or gone."""
    names = partials.names()
    for file in names:
        data = file.removesuffix(".new").removesuffix(".parts")
        if data != file and data not in names and digest_of(data) is not None:
            partials.remove(file)
