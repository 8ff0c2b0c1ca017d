"""Remembers which manifests were published here, so that a changed byte in one is found.

A blob's name tells its digest; a manifest's does not. So for each set of blobs it is written down which manifests of
them were published. The rule: a manifest of the same blobs that is none of these was damaged; one of other blobs is
somebody else's (Ollama writes to the same layout), and nothing is said against it, nor against one that Ollama wrote
anew, in spaces of its own and without what it does not know. It is written down, durable, before a manifest gets its
name, so neither a crash nor a full disk makes a sound one look damaged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress

from localmodels.core.errors import ModelDamaged
from localmodels.store.layout import Layout
from localmodels.store.manifests import Manifest
from localmodels.store.notes import read_note, sweep_notes, write_note

# Manifests of one set of blobs, two forms of each: what a registry and we say of them differs in names and kinds.
_MOST = 32
_DIGITS = re.compile(rb"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{64}")


def note_published(layout: Layout, manifest: Manifest) -> None:
    """This manifest is about to get a name. What cannot be written down is forgotten, and the others of its blobs too.

    Raises:
        OSError: not even that can be done.
    """
    known = _read(layout, manifest)
    if manifest.document in known[:1]:
        return
    forms = dict.fromkeys((manifest.document, manifest.kept, *known))
    try:
        with layout.published(make=True) as folder:
            # Where there was a note, a power cut must not bring it back beside a manifest that it does not know.
            write_note(folder, _name(manifest), "\n".join([*forms][:_MOST]).encode(), lasting=bool(known))
    except (OSError, ModelDamaged):
        if known:
            with layout.published() as folder:
                folder.remove(_name(manifest))
                folder.sync()


def require_published(layout: Layout, manifest: Manifest) -> None:
    """Looks whether a manifest is one that was published here, if any of its blobs was.

    Raises:
        ModelDamaged: it was changed since.
    """
    known = _read(layout, manifest)
    if known and manifest.document not in known:
        raise ModelDamaged("the manifest is not as it was published")


def sweep_published(layout: Layout, living: Iterable[Manifest]) -> None:
    """Removes what is written down of sets of blobs that no manifest has."""
    needed = {_name(manifest) for manifest in living}
    with suppress(OSError), layout.published() as folder:
        sweep_notes(folder, lambda name, _status: name in needed or _NAME.fullmatch(name) is None)


def sweep_unfinished(layout: Layout) -> None:
    """Removes what a dead process left half written."""
    with suppress(OSError), layout.published() as folder:
        sweep_notes(folder, lambda _name, _status: True)


def _read(layout: Layout, manifest: Manifest) -> list[str]:
    with suppress(OSError, ModelDamaged), layout.published() as folder:
        text = read_note(folder, _name(manifest)) or b""
        return [line.decode() for line in text.split(b"\n") if _DIGITS.fullmatch(line)]
    return []


def _name(manifest: Manifest) -> str:
    """By which a set of blobs is known, in whatever order they stand."""
    blobs = sorted({layer.digest.hex for layer in manifest.blobs})
    return hashlib.sha256("\n".join(blobs).encode()).hexdigest()
