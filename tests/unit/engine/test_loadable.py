"""Plans are made once, and never for another place."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from tools.random_model import TINY, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware
from localmodels.engine.loadable import MOST_KNOWN, Loadable, Loader, Purpose

GIB = 2**30


def loader() -> Loader:
    return Loader(Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB))


def loadable(tmp_path: Path, *, embedding: bool = False, rerank: bool = False) -> Loadable:
    file = write_random_model(tmp_path / "tiny.gguf", shape=TINY, embedding=embedding, rerank=rerank)
    return Loadable("same", Model("tiny:latest", 1, "d", ""), str(file), read_header(file))


def test_the_same_model_in_another_place_is_loaded_from_there(tmp_path: Path) -> None:
    plans, first = loader(), loadable(tmp_path)
    moved = replace(first, path="/elsewhere.gguf", model=replace(first.model, name="other"))
    loads = [plans.load(one, "generate", Options()) for one in (first, moved)]
    assert [load.loadable.path for load in loads] == [first.path, "/elsewhere.gguf"]
    assert loads[0].plan is loads[1].plan


def test_each_way_of_asking_has_its_own_plan(tmp_path: Path) -> None:
    plans, one = loader(), loadable(tmp_path)
    small, large = (plans.load(one, "generate", Options(num_ctx=size)) for size in (64, 128))
    assert small.plan.context < large.plan.context
    assert (small.exact_context, plans.load(one, "generate", Options()).exact_context) == (True, False)
    assert plans.load(one, "generate", Options(temperature=0.5)).shape is None
    assert plans.load(one, "generate", Options(num_batch=64)).shape == "num_batch=64"


def test_ever_other_ways_of_asking_change_nothing(tmp_path: Path) -> None:
    plans, one = loader(), loadable(tmp_path)
    loads = [plans.load(one, "generate", Options(num_batch=size)) for size in range(1, MOST_KNOWN + 20)]
    assert [load.shape for load in loads] == [f"num_batch={size}" for size in range(1, MOST_KNOWN + 20)]


@pytest.mark.parametrize(
    ("purpose", "kind", "embedding", "pooling"),
    [
        ("generate", {}, False, ""),
        ("embed", {}, True, "mean"),
        ("embed", {"embedding": True}, True, ""),
        ("rank", {"rerank": True}, True, "rank"),
    ],
)
def test_what_a_runner_is_loaded_for(
    purpose: Purpose, kind: dict[str, bool], embedding: bool, pooling: str, tmp_path: Path
) -> None:
    load = loader().load(loadable(tmp_path, **kind), purpose, Options())
    config = load.config(tmp_path, binary="", cache_ram=0)
    assert (config.embedding, config.pooling) == (embedding, pooling)
    assert load.loadable.key(purpose) == f"same/{purpose}"
