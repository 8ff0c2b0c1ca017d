"""The models that another server lists, remembered.

The one rule: nobody waits for a server that is slow to list, but the first who asks, and he not for long. What is known
is shown while it is asked for anew, and stays when that fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from localmodels.core import via
from localmodels.core.catalog import Model
from localmodels.core.errors import LocalModelsError
from localmodels.core.servers import MODEL_NAME, ServerSpec
from localmodels.dialects.offered import named
from localmodels.fleet.fleet import failure_of

log = logging.getLogger(__name__)

FRESH = 60.0  # seconds that a list counts as new
PATIENCE = 1.0  # seconds that the first who asks waits
MOST_MODELS = 2_000


Ask = Callable[[], Awaitable[Sequence[Model]]]


class Listed:
    """One server's models.

    Args:
        spec: the server; a table that lists models is believed, and nobody is asked.
        ask: asks it for its list.
        clock: seconds.

    Attributes:
        known: has the server told them?
    """

    def __init__(self, spec: ServerSpec, ask: Ask, *, clock: Callable[[], float] = monotonic) -> None:
        self.known = False
        self._asked = False
        self._spec = spec
        self._request = ask
        self._clock = clock
        self._models = tuple(named(spec.name, model) for model in spec.models)
        self._names = frozenset(model.name for model in self._models)
        self._due = float("inf") if spec.models else 0.0
        self._asking: asyncio.Task[None] | None = None

    async def models(self, *, patience: float = PATIENCE) -> tuple[Model, ...]:
        """All that are known now; waits at most ``patience`` seconds, and only when none have been told yet."""
        if self._clock() >= self._due:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            if not self._asked:
                await asyncio.wait((self._asking,), timeout=patience)
        return self._models

    def has(self, name: str) -> bool:
        """Is this one of those that were listed last, or stand in the table? Nobody is asked."""
        return name in self._names

    def close(self) -> None:
        """Asks no more."""
        self._due = float("inf")
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        via.on_own()  # whoever was the first to want it, it is for all
        try:
            self._models = await self._told()
            self._names = frozenset(model.name for model in self._models)
            self.known = True
        except LocalModelsError as error:
            log.info("the server '%s' does not list its models: %s", self._spec.name, failure_of(error, self._spec))
        finally:
            self._asked = True
            self._due = max(self._due, self._clock() + FRESH)
            self._asking = None

    async def _told(self) -> tuple[Model, ...]:
        told = await self._request()
        return tuple(model for model in told[:MOST_MODELS] if MODEL_NAME.fullmatch(model.name))
