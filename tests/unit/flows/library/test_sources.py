"""What is sent was read: a file that was damaged is told here, and not by the registry that does not take it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.unit.store.written import WEIGHTS, blob, create, digest

from localmodels.core.errors import ModelDamaged
from localmodels.flows.library.transfers import StoreSources
from localmodels.store.model_store import ModelStore


@awaited
async def test_a_sound_file_is_sent_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    create(store)
    source = await StoreSources(store).open(blob(WEIGHTS))
    assert await source.read(0, len(WEIGHTS)) == WEIGHTS
    await source.close()
    store.layout.blob(digest(WEIGHTS)).write_bytes(WEIGHTS.replace(b"w", b"W", 1))
    with pytest.raises(ModelDamaged, match=f"{digest(WEIGHTS).hex}: missing or damaged; pull or create"):
        await StoreSources(store).open(blob(WEIGHTS))
