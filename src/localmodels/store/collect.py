"""Collects the blobs that no model needs any more.

The rule, and :func:`verdict` is all of it: a blob goes only if no manifest names it, no lease claims it, it is older
than the grace, and no damaged manifest may have named it. What a damaged manifest may have named is this:

- every digest that can still be read in it, however little else can;
- if it is torn (no whole JSON object), also every blob that was there when it was written, that is, none younger than
  itself. Such blobs are *held*, the younger ones are still collected;
- if it cannot even be looked at (a link, an unreadable directory), every blob.

So one bad manifest neither loses blobs nor stops the collection (ollama #13885), and ``repair``, which puts it into
quarantine, ends the holding. One case is not covered: a torn manifest whose blob was written anew after it, by a
program that thought the blob missing.

Doomed blobs are moved away under the lock, which takes a moment, and removed after it, which takes as long as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from msgspec import Struct

from localmodels.core.catalog import Blob, Digest
from localmodels.store.folders import disk_errors
from localmodels.store.layout import Layout, blob_name
from localmodels.store.leases import Claim, Leases, living
from localmodels.store.lock import StoreLock
from localmodels.store.published import sweep_published
from localmodels.store.seals import Seals
from localmodels.store.stocktaking import Item, Sheet, items, sheets, shown

_NEVER: Mapping[Digest, int] = {}
GRACE = 3600.0  # seconds; Ollama's own, so that both programs agree on what is just being made


class Verdict(Struct, frozen=True):
    """What is to become of the blobs that no manifest names.

    Attributes:
        doomed: they go.
        leased: a writer needs them.
        young: they may be part of a model that is just being made.
        held: one of the manifests in ``holding`` may have named them.
        holding: damaged manifests, as paths.
    """

    doomed: tuple[Blob, ...] = ()
    leased: tuple[Blob, ...] = ()
    young: tuple[Blob, ...] = ()
    held: tuple[Blob, ...] = ()
    holding: tuple[str, ...] = ()

    @property
    def freed(self) -> int:
        """Bytes of the blobs that go."""
        return sum(blob.size for blob in self.doomed)


def verdict(
    found: Iterable[Item],
    read: Iterable[Sheet],
    claims: Iterable[Claim],
    *,
    now: float,
    grace: float,
    released: frozenset[Digest] = frozenset(),
    asked: Mapping[Digest, int] = _NEVER,
) -> Verdict:
    """Decides over each blob.

    Args:
        found: what lies among the blobs.
        read: what lies among the manifests.
        claims: of the living writers.
        now: seconds since 1970.
        grace: seconds for which a blob that nobody names yet is left alone.
        released: blobs that have no such grace, since they are known to be of a model that was deleted.
        asked: when somebody last counted on a blob that was there already, nanoseconds since 1970.
    """
    known, holders = tuple(read), tuple(claims)
    claimed = {digits for claim in holders for digits in claim.digests}
    everything = any(claim.everything for claim in holders)
    named = frozenset().union(*(sheet.legible for sheet in known))
    torn = [sheet for sheet in known if not sheet.complete]
    fates: Mapping[str, list[Blob]] = {"doomed": [], "leased": [], "young": [], "held": []}
    for item in found:
        if item.digest is None or not item.plain or item.digest in named:
            continue
        fate = "doomed"
        if everything or item.digest.hex in claimed:
            fate = "leased"
        elif max(item.written, asked.get(item.digest, 0)) > (now - grace) * 1e9 and item.digest not in released:
            fate = "young"
        elif any(sheet.written is None or item.written <= sheet.written for sheet in torn):
            fate = "held"
        fates[fate].append(Blob(item.digest, item.size))
    holding = tuple(shown(*sheet.where) for sheet in torn)
    return Verdict(**{fate: tuple(blobs) for fate, blobs in fates.items()}, holding=holding)


@disk_errors()
def collect(
    layout: Layout,
    lock: StoreLock,
    leases: Leases,
    *,
    grace: float = GRACE,
    released: Iterable[Digest] = (),
    now: float | None = None,
) -> Verdict:
    """Removes the blobs that nothing needs, and what dead writers left.

    ``released`` are blobs of a model that was just deleted: they need not grow old first, so that the room is there at
    once. All other conditions hold for them too.

    Raises:
        ModelDamaged: ``manifests`` or ``blobs`` is a link.
    """
    try:
        layout.manifests().close()
    except FileNotFoundError:
        return Verdict()  # no names at all is more likely a store that was taken apart than one that is done with
    with leases.open("gc") as lease, lock.held():
        claims = [claim for _, claim in living(layout)]
        moment = time.time() if now is None else now
        read = tuple(sheets(layout))
        seals, gone = Seals(layout), frozenset(released)
        decided = verdict(items(layout), read, claims, now=moment, grace=grace, released=gone, asked=seals.asked())
        with layout.blobs() as blobs:
            for blob in decided.doomed:
                file = blob_name(blob.digest)
                with suppress(FileNotFoundError):  # Ollama may remove it too
                    status = blobs.look(file)
                    blobs.move(file, lease.folder, lease.new_file())
                    if status is not None:
                        seals.forget(blob.digest, status)
            blobs.sync()
        sweep_published(layout, (sheet.manifest for sheet in read if sheet.manifest is not None))
    return decided
