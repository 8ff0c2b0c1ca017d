"""Reranking by real runners: llama.cpp's own order and numbers, documents of any length, whichever kind of model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import exp
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.encoder import write_reranker
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.http import Http
from localmodels.backends.remote import Remote
from localmodels.backends.tcp import Tcp
from localmodels.core.catalog import Model
from localmodels.core.errors import ContextLengthExceeded, Unsupported
from localmodels.core.options import Options
from localmodels.core.rerank import Ranked, RerankRequest
from localmodels.dialects.table import DIALECTS
from localmodels.engine.hardware import Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.llama import LlamaBackend
from localmodels.engine.loadable import Loadable, Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler

GIB = 2**30
HARDWARE = Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB)
JUDGE = Path(__file__).with_name("bare_reranker.py")
DOCUMENTS = (
    "hi", "it is a bear", "The giant panda is a bear species endemic to China.", "Pandas eat bamboo.", "", "é漢😀",
    "What is a panda?", "0123456789" * 9,
)  # fmt: skip
QUESTION = RerankRequest("m", "What is a panda?", DOCUMENTS)
KINDS: dict[str, Callable[[Path], Path]] = {
    "decoder": lambda path: write_random_model(path, rerank=True),
    "encoder": lambda path: write_reranker(path, context=512),
}


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A kind of reranker, and one of it."""
    kind: str = request.param
    return kind, KINDS[kind](tmp_path_factory.mktemp("models") / f"{kind}.gguf")


@asynccontextmanager
async def leased(path: Path) -> AsyncIterator[LlamaBackend]:
    loadable = Loadable(path.stem, Model("m:latest", 1, "d", ""), str(path), read_header(path))
    housing = Housing()
    pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build())
    load = Loader(HARDWARE, Options(num_parallel=2, num_ctx=512)).load(loadable, "rank", Options())
    try:
        async with pool.lease(load, keep_alive=None, patience=60.0) as backend:
            yield backend
    finally:
        await pool.close()
        housing.close()


def judged(path: Path, request: RerankRequest) -> dict[int, float]:
    """What llama.cpp itself says: a score a document, the best first."""
    asked = json.dumps({"query": request.query, "documents": request.documents})
    command = [sys.executable, str(JUDGE), str(path)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, timeout=60)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {one["index"]: one["relevance_score"] for one in answer["results"]}


@awaited
async def test_the_order_and_the_numbers_are_llama_cpps_own(model: tuple[str, Path]) -> None:
    _, path = model
    own = judged(path, QUESTION)
    async with leased(path) as backend:
        ranking = await backend.rank(replace(QUESTION, raw=True))
    assert len(set(own.values())) == len(DOCUMENTS), "a judge who sees no difference judges nothing"
    assert [one.index for one in ranking.results] == list(own)
    assert [one.score for one in ranking.results] == pytest.approx(list(own.values()), abs=5e-3)
    assert ranking.prompt_tokens > 0


@awaited
async def test_scores_lie_between_0_and_1(model: tuple[str, Path]) -> None:
    kind, path = model
    async with leased(path) as backend:
        raw = await backend.rank(replace(QUESTION, raw=True))
        best = await backend.rank(replace(QUESTION, top_n=3))
    expected = [one.score if kind == "decoder" else 1 / (1 + exp(-one.score)) for one in raw.results]
    assert [one.index for one in best.results] == [one.index for one in raw.results][:3]
    assert [one.score for one in best.results] == pytest.approx(expected[:3], abs=1e-3)
    assert all(0 <= one.score <= 1 for one in best.results)


@awaited
async def test_a_document_that_is_too_long_is_cut_where_it_may_be(model: tuple[str, Path]) -> None:
    _, path = model
    documents = ("word " * 2_000, "short", "漢字😀" * 900, "x" * 488)
    async with leased(path) as backend:
        ranking = await backend.rank(replace(QUESTION, documents=documents))
        with pytest.raises(ContextLengthExceeded) as caught:
            await backend.rank(replace(QUESTION, documents=documents, truncate=False))
        fewer = await backend.rank(replace(QUESTION, documents=documents, most_tokens=5))
        with pytest.raises(ContextLengthExceeded):
            await backend.rank(replace(QUESTION, query="word " * 2_000))
    assert sorted(one.index for one in ranking.results) == [0, 1, 2, 3]
    assert 3 * 400 < ranking.prompt_tokens <= 4 * 512
    assert caught.value.prompt_tokens > caught.value.context_tokens > 400
    assert fewer.prompt_tokens < 4 * 60


@awaited
async def test_a_question_cannot_stand_in_for_the_document(model: tuple[str, Path]) -> None:
    _, path = model
    request = replace(QUESTION, query="{document}" * 10, documents=("x" * 300,))
    async with leased(path) as backend:
        assert (await backend.rank(request)).prompt_tokens < 512


@awaited
async def test_another_server_ranks_too() -> None:
    """Over HTTP, by whichever of our dialects knows of it."""
    script = Script(vectors=((0.25, 1.0), (0.75, 1.0), (0.5, 1.0)))
    async with FakeServer(script) as server:
        http = Http(Tcp(server.url), DIALECTS["openai"].read_error)
        remote = Remote(http, DIALECTS["openai"])
        ranking = await remote.rank(RerankRequest("m", "q", ("a", "b", "c", "d"), top_n=3))
        other = Remote(http, DIALECTS["ollama"])
        with pytest.raises(Unsupported):
            await other.rank(QUESTION)
        await remote.close()
    assert ranking.results == (Ranked(1, 0.75), Ranked(2, 0.5), Ranked(0, 0.25))
    assert ranking.prompt_tokens == 5
