"""The models that another server lists, remembered.

The one rule: nobody waits for a server that is slow to list, but the first who asks, and he not for long. What is known
is shown while it is asked for anew, and stays when that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from time import monotonic

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.backends.http import Http
from localmodels.core.catalog import Model
from localmodels.core.errors import Garbled, LocalModelsError
from localmodels.core.servers import MODEL_NAME, ServerSpec
from localmodels.dialects import listing

FRESH = 60.0  # seconds that a list counts as new
PATIENCE = 1.0  # seconds that the first who asks waits
MOST_MODELS = 2_000
_EPOCH = "1970-01-01T00:00:00+00:00"


class _Entry(Struct):
    id: str
    created: int | None = None
    created_at: str | None = None


class _Entries(Struct):
    data: tuple[_Entry, ...] | None = None


_ENTRIES = msgspec.json.Decoder(_Entries)


Outcome = Callable[[LocalModelsError | None], object]


def _unnoticed(error: LocalModelsError | None) -> None:
    """Nobody wants to know."""


class Listed:
    """One server's models.

    Args:
        spec: the server; a table that lists models is believed, and nobody is asked.
        http: connections to it.
        outcome: is told how each asking ended, None for well.
        clock: seconds.

    Attributes:
        known: has the server told them?
    """

    def __init__(
        self, spec: ServerSpec, http: Http, outcome: Outcome = _unnoticed, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self.known = False
        self._asked = False
        self._spec = spec
        self._http = http
        self._outcome = outcome
        self._clock = clock
        self._models = tuple(remote_model(spec.name, model) for model in spec.models)
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
        try:
            self._models = await self._told()
            self._names = frozenset(model.name for model in self._models)
            self.known = True
            self._outcome(None)
        except LocalModelsError as error:
            self._outcome(error)
        finally:
            self._asked = True
            self._due = max(self._due, self._clock() + FRESH)
            self._asking = None

    async def _told(self) -> tuple[Model, ...]:
        spec = self._spec
        if spec.kind == "ollama":
            models = listing.read_tags(await self._http.get("/api/tags"))
            told = [adopted(spec.name, model) for model in models]
        else:
            entries = read_entries(await self._http.get("/v1/models"))
            told = [remote_model(spec.name, one.id, moment(one.created_at or "", one.created)) for one in entries]
        return tuple(model for model in told[:MOST_MODELS] if MODEL_NAME.fullmatch(model.name))


def adopted(server: str, model: Model) -> Model:
    """A model as an Ollama lists it, under our name for it."""
    return replace(model, name=f"{server}/{model.name}", server=server, modified_at=moment(model.modified_at))


def remote_model(server: str, model: str, modified_at: str = _EPOCH) -> Model:
    """A model of which only its name is known. Clients of Ollama cut its digest short, so there is one: of the name."""
    name = f"{server}/{model}"
    return Model(name, 0, sha256(name.encode()).hexdigest(), modified_at, server=server)


def read_entries(body: bytes) -> tuple[_Entry, ...]:
    """The entries of ``/v1/models``, OpenAI's or Anthropic's.

    Raises:
        Garbled: it is something else.
    """
    try:
        return _ENTRIES.decode(body).data or ()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's list is not OpenAI's: {error}") from error


def moment(told: str, seconds: int | None = None) -> str:
    """When something was made, as RFC 3339; the beginning of time where that is not told in any way we know."""
    try:
        if told:
            made = datetime.fromisoformat(told)
            return (made if made.tzinfo else made.replace(tzinfo=UTC)).isoformat()
        return datetime.fromtimestamp(seconds or 0, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return _EPOCH
