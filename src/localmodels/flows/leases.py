"""A store's lease for as long as something is done; threads wait for the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from localmodels.flows.threads import in_thread, opened
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore


@asynccontextmanager
async def leased(store: ModelStore, purpose: str, *, reserve: int = 0) -> AsyncIterator[Lease]:
    """A lease, opened and ended in a thread; it ends also when this is cancelled."""
    lease = await opened(lambda: store.lease(purpose, reserve=reserve), Lease.close)
    try:
        yield lease
    finally:
        await in_thread(lease.close)
