"""The flow of reranking: who may, who can, which model where none is named, and what is noted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from localmodels.backends.fake import Fake, Script
from localmodels.core.access import Caller
from localmodels.core.catalog import Model
from localmodels.core.chat import Usage
from localmodels.core.errors import Forbidden, InvalidRequest, ModelNotFound, RateLimited, Unsupported
from localmodels.core.rerank import Ranked, RerankRequest
from localmodels.flows.answering.chat import Defaults
from localmodels.flows.answering.rerank import Ranker
from localmodels.flows.visit import Visit

SCRIPT = Script(vectors=((0.25,), (0.75,), (0.5,)))
QUESTION = RerankRequest("ranks", "q", ("a", "b", "c"))


class Target:
    """A model behind which the fake stands."""

    defaults = Defaults()
    adapters: tuple[str, ...] = ()
    listed = True

    def __init__(self, name: str, capabilities: str) -> None:
        self.name = f"{name}:latest"
        self.capabilities = tuple(capabilities.split())

    @asynccontextmanager
    async def ready(self, request: Any, visit: Visit) -> AsyncIterator[Fake]:
        yield Fake(SCRIPT)

    async def load(self, request: Any, visit: Visit) -> None: ...

    async def unload(self) -> str:
        return ""


class Shelf:
    """Finds and lists models."""

    def __init__(self, **models: str) -> None:
        self._models = {name: Target(name, capabilities) for name, capabilities in models.items()}

    async def find(self, name: str) -> Target:
        if (target := self._models.get(name.removesuffix(":latest"))) is None:
            raise ModelNotFound(name)
        return target

    async def models(self, caller: Caller) -> tuple[Model, ...]:
        return tuple(
            Model(target.name, 1, "", "", capabilities=target.capabilities)  # type: ignore[arg-type]
            for target in self._models.values()
            if caller.may_ask(target.name)
        )


SHELF = Shelf(writes="completion", other="rerank", ranks="rerank")


def rank(request: RerankRequest = QUESTION, visit: Visit | None = None, shelf: Shelf = SHELF, **more: Any) -> Any:
    ranker = Ranker(shelf, shelf.models, **more)
    return asyncio.run(ranker.rank(request, visit or Visit("r", Caller("k", "k"))))


def test_the_best_comes_first_and_is_noted() -> None:
    visit = Visit("r", Caller("k", "k"))
    ranking = rank(visit=visit)
    assert ranking.results == (Ranked(1, 0.75), Ranked(2, 0.5), Ranked(0, 0.25))
    assert ranking.timings.total >= ranking.timings.load > 0
    assert (visit.model, visit.usage, visit.reason) == ("ranks:latest", Usage(prompt_tokens=5), "stop")


def test_a_model_that_writes_ranks_nothing() -> None:
    with pytest.raises(Unsupported, match="writes:latest does not rerank"):
        rank(RerankRequest("writes", "q", ("a",)))
    with pytest.raises(ModelNotFound):
        rank(RerankRequest("nobody", "q", ("a",)))


def test_without_a_name_the_first_reranker_that_may_be_asked_answers() -> None:
    unnamed = RerankRequest("", "q", ("a",))
    for models, expected in {("*",): "other:latest", ("ranks*",): "ranks:latest"}.items():
        visit = Visit("r", Caller("k", "k", models=models))
        rank(unnamed, visit)
        assert visit.model == expected
    with pytest.raises(InvalidRequest, match="there is no reranker"):
        rank(unnamed, shelf=Shelf(writes="completion"))
    with pytest.raises(InvalidRequest, match="there is no reranker"):
        rank(unnamed, Visit("r", Caller("k", "k", models=("writes*",))))


def test_a_key_for_other_models_is_refused() -> None:
    with pytest.raises(Forbidden):
        rank(visit=Visit("r", Caller("k", "k", models=("writes*",))))


def test_the_callers_budget_is_asked_before_the_model() -> None:
    class Empty:
        def reserve(self, visit: Visit, prompt: int, answer: int) -> None:
            assert (prompt, answer) == (6, 0), "each document with the question beside it"
            raise RateLimited("no more")

    with pytest.raises(RateLimited):
        rank(budget=Empty())
