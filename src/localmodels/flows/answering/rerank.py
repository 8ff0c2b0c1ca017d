"""Reranking: from a question and its documents to their order, whichever model answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic_ns

from msgspec.structs import replace

from localmodels.core.access import Caller
from localmodels.core.catalog import Model
from localmodels.core.errors import InvalidRequest, Unsupported
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.flows.answering.chat import Boundless, Budget, Finder, permitted, prompt_of, timed
from localmodels.flows.answering.token_estimates import prompt_tokens
from localmodels.flows.visit import Visit

Models = Callable[[Caller], Awaitable[tuple[Model, ...]]]


class Ranker:
    """The flow.

    Args:
        finder: finds the model that is asked for.
        models: lists those that a caller may ask, for requests that ask for none.
        budget: what callers may use.
    """

    def __init__(self, finder: Finder, models: Models, budget: Budget | None = None) -> None:
        self._finder = finder
        self._models = models
        self._budget = budget or Boundless()

    async def rank(self, request: RerankRequest, visit: Visit) -> Ranking:
        """Puts the documents in order, the best first.

        Raises:
            ModelNotFound, Unavailable, ContextLengthExceeded: as for embeddings.
            Unsupported: the model is none that ranks.
            InvalidRequest: none is named, and there is none.
        """
        started = monotonic_ns()
        model = await permitted(self._finder, request.model or await self._newest(visit), visit)
        if "rerank" not in model.capabilities:
            raise Unsupported(f"{model.name} does not rerank", param="model")
        self._budget.reserve(visit, prompt_tokens(request), 0)
        async with model.ready(request, visit) as backend:
            visit.admitted = loaded = monotonic_ns()
            ranking = await backend.rank(request)
        visit.usage, visit.reason = prompt_of(ranking.prompt_tokens), "stop"
        return replace(ranking, timings=timed(ranking.timings, started, loaded, monotonic_ns()))

    async def _newest(self, visit: Visit) -> str:
        """The newest reranker that this caller may ask: the default model writes text and ranks nothing."""
        for model in await self._models(visit.caller):
            if "rerank" in model.capabilities:
                return model.name
        raise InvalidRequest("model is required: there is no reranker to choose", param="model")
