"""What is tried: a stock does each operation on the store at ``root``. This one is the product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tools.crash.scenes import CONFIG, COPIED, DAY, JOB, KEPT, NEW, NEW_MANIFEST, PART, TEMPLATE, WEIGHTS, digest

from localmodels.core.catalog import Digest, ModelName
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

# In no order, as parts of a download come.
PARTS = (2, 0, 1)


class Stock(Protocol):
    """The operations on one store."""

    def __init__(self, root: Path) -> None: ...
    def create(self) -> None: ...
    def replace(self) -> None: ...
    def adopt(self) -> None: ...
    def pull(self) -> None: ...
    def copy(self) -> None: ...
    def delete(self) -> None: ...
    def collect(self) -> None: ...
    def recover(self) -> None: ...
    def litter(self) -> None: ...


def named(place: str) -> ModelName:
    """The name whose manifest lies at this path."""
    return ModelName.parse("{}/{}/{}:{}".format(*place.split("/")))


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes as an upload brings them."""
    return (data[at : at + PART] for at in range(0, len(data), PART))


class Product:
    """The store that ships."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store = ModelStore(root)

    def create(self) -> None:
        self._create(NEW)

    def replace(self) -> None:
        self._create(KEPT)

    def adopt(self) -> None:
        source = self._root.parent / JOB
        with self._store.lease("adopt", reserve=len(WEIGHTS)) as lease:
            self._store.adopt(lease, source, digest=Digest(digest(WEIGHTS)), ours=True)
            self._finish(lease, NEW)

    def pull(self) -> None:
        wanted = Digest(digest(WEIGHTS))
        with self._store.lease("pull", reserve=len(WEIGHTS)) as lease:
            if self._store.find(wanted, len(WEIGHTS)) is None:
                with self._store.partial(lease, wanted, len(WEIGHTS)) as partial:
                    for number in PARTS:
                        at, part = number * PART, WEIGHTS[number * PART : (number + 1) * PART]
                        if any(start <= at < end for start, end in partial.missing):
                            partial.write(at, part)
                            partial.finish(at, len(part))
                    partial.commit()
            self._finish(lease, NEW)

    def copy(self) -> None:
        self._store.copy(named(KEPT), named(COPIED))

    def delete(self) -> None:
        self._store.delete(named(NEW))

    def collect(self) -> None:
        self._store.collect()

    def recover(self) -> None:
        self._store.recover(age=DAY / 2)

    def litter(self) -> None:
        """What a killed writer leaves, and a download that was given up two days ago."""
        own = self._root / ".localmodels"
        for file in ("leases/dead/lock", "leases/dead/claim", "leases/dead/1.tmp", "leases/bare/2.tmp"):
            (own / file).parent.mkdir(parents=True, exist_ok=True)
            (own / file).write_bytes(b"{}" * 1000)

    def _create(self, place: str) -> None:
        with self._store.lease("create", reserve=len(WEIGHTS)) as lease:
            self._store.write(lease, pieces(WEIGHTS))
            self._finish(lease, place)

    def _finish(self, lease: Lease, place: str) -> None:
        for small in (CONFIG, TEMPLATE):
            self._store.write(lease, [small], digest=Digest(digest(small)), size=len(small))
        self._store.publish(lease, named(place), NEW_MANIFEST)
