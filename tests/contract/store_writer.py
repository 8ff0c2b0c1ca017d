"""A writer in a process of its own: ``python store_writer.py ROOT WHAT``.

Says ``ready`` once it is in the middle of it, and goes on when it is told to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.unit.store.written import CONFIG, MANIFEST, NAME, TEMPLATE, WEIGHTS, digest

from localmodels.store.model_store import ModelStore


def pause() -> None:
    """Says where it is, and waits."""
    print("ready", flush=True)
    sys.stdin.readline()


def pieces() -> Iterator[bytes]:
    yield WEIGHTS[:1000]
    pause()
    yield WEIGHTS[1000:]


def create(store: ModelStore) -> None:
    with store.lease("create", reserve=10_000) as lease:
        for parts in (pieces(), [TEMPLATE], [CONFIG]):
            store.write(lease, parts)
        store.publish(lease, NAME, MANIFEST)


def pull(store: ModelStore) -> None:
    with store.lease("pull") as lease, store.partial(lease, digest(WEIGHTS), len(WEIGHTS)) as partial:
        partial.write(0, WEIGHTS[:5000])
        partial.finish(0, 5000)
        pause()


def protect(store: ModelStore) -> None:
    with store.lease("load") as lease:
        lease.protect(digest(WEIGHTS))
        pause()


def lock(store: ModelStore) -> None:
    with store.lock.held():
        pause()


WHAT: Mapping[str, Callable[[ModelStore], None]] = {"create": create, "pull": pull, "protect": protect, "lock": lock}

if __name__ == "__main__":
    WHAT[sys.argv[2]](ModelStore(Path(sys.argv[1])))
