"""How servers of each kind are asked how they are: a few questions that cost nothing there, never a generation.

The one rule: a server is asked for its list first, and whoever does not give it in time is a failure; whatever else it
could tell is told or not. What one model can do is asked once for each digest, and what is not told at once is asked
again with the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import time
from typing import TypeVar

from msgspec.structs import replace

from localmodels.backends.http import Http
from localmodels.core.catalog import Model, Running
from localmodels.core.errors import (
    CallerError,
    Forbidden,
    Garbled,
    LocalModelsError,
    MethodNotAllowed,
    NotFound,
    Unsupported,
)
from localmodels.dialects import offered, told
from localmodels.dialects.told import Entries, Shown, Told

T = TypeVar("T")

# Bytes of a list. Ollama tells some 600 of a model, llama.cpp's router with all flags of a model some 2,000; and what
# is larger would keep everybody waiting while it is read (threat V-22).
MOST_LIST = 8 * 2**20
# Models that are asked for themselves in one look, and seconds for all of them together: Ollama reads a file for each.
MOST_SHOWN = 32
SHOWING = 1.0
# Seconds for what llama.cpp answers between two batches only: it may be at a long prompt.
ASIDE = 0.5

# It answers, but has no list, or not for this key: many that speak OpenAI's API are so.
_LISTLESS = (Forbidden, MethodNotAllowed, NotFound, Unsupported)


class Remembered:
    """What need not be asked of a server again.

    Attributes:
        version: of its program, until a look fails: then it may be another. None is not asked yet.
        shown: what its models can do, by digest; of those only that were listed last.
    """

    def __init__(self) -> None:
        self.version: str | None = None
        self.shown: dict[str, Shown] = {}


Look = Callable[[Http, Remembered], Awaitable[Told]]


async def look_at_ollama(http: Http, remembered: Remembered) -> Told:
    """Ollama, or another LocalModels."""
    listed = told.read_tags(await http.get("/api/tags", most=MOST_LIST))
    models = listed.models
    about = await _if_told(http, "/api/version", told.read_about) or told.About()
    held = await _if_told(http, "/api/ps", told.read_held) or told.Held()
    await _show(http, models, remembered)
    known = tuple(_known(model, remembered) for model in models)
    return Told(
        known,
        about.version,
        held.running,
        memory_free=held.memory_free,
        gateway=about.gateway,
        whole=not listed.more,
        more=listed.more,
    )


async def look_at_openai(http: Http, remembered: Remembered) -> Told:
    """Whatever speaks OpenAI's API; vLLM also tells its version."""
    entries = await _entries(http, "")
    if remembered.version is None:
        remembered.version = await _if_told(http, "/version", told.read_version) or ""
    whole = bool(entries.models) and not entries.more  # many have no list, and answer all the same
    return Told(entries.models, remembered.version, _warm(entries), whole=whole, more=entries.more)


async def look_at_llamacpp(http: Http, remembered: Remembered) -> Told:
    """llama.cpp's own server, with one model or many."""
    entries = await _entries(http, "")
    props = await _if_told(http, "/props", told.read_props) or told.Props()
    if props.routes:
        return Told(entries.models, props.version, _warm(entries), whole=not entries.more, more=entries.more)
    models = tuple(
        replace(
            model,
            capabilities=tuple(dict.fromkeys((*model.capabilities, *props.can))),
            context_length=props.context_length or model.context_length,
        )
        for model in entries.models
    )
    running = () if props.sleeps else tuple(told.in_memory(model, model.context_length) for model in models)
    # With one model it answers by any name.
    return Told(models, props.version, running, busy=None if props.sleeps else await _slots(http), more=entries.more)


async def look_at_anthropic(http: Http, remembered: Remembered) -> Told:
    """Anthropic's API, page by page. It lists models by their days, and answers by shorter names, too."""
    models: dict[str, Model] = {}
    query = f"?limit={told.PAGE}"
    while query and len(models) < told.MOST_MODELS:
        page = await _entries(http, query)
        fresh = {model.name: model for model in page.models if model.name not in models}
        if page.following and not fresh:
            raise Garbled("the pages of the server's list have no end")
        models.update(fresh)
        query = page.following
    return Told(tuple(models.values())[: told.MOST_MODELS], more=bool(query) or len(models) > told.MOST_MODELS)


async def _entries(http: Http, query: str) -> Entries:
    """A list in OpenAI's form; an empty one of a server that has none."""
    try:
        return told.read_entries(await http.get(f"/v1/models{query}", most=MOST_LIST), time())
    except _LISTLESS:
        return Entries(())


def _warm(entries: Entries) -> tuple[Running, ...] | None:
    if entries.running is None:
        return None
    warm = entries.running
    return tuple(told.in_memory(model, model.context_length) for model in entries.models if model.name in warm)


async def _if_told(http: Http, path: str, read: Callable[[bytes], T]) -> T | None:
    """What is there; None where nothing is, or not for us."""
    try:
        return read(await http.get(path, most=MOST_LIST))
    except (CallerError, Garbled):
        return None


async def _slots(http: Http) -> int | None:
    """Requests at work."""
    try:
        async with asyncio.timeout(ASIDE):
            return await _if_told(http, "/slots", told.read_slots)
    except (TimeoutError, LocalModelsError):
        return None


async def _show(http: Http, models: tuple[Model, ...], remembered: Remembered) -> None:
    """Asks what those can do of which that is not known; forgets those that are gone."""
    listed = {model.digest for model in models}
    remembered.shown = {digest: shown for digest, shown in remembered.shown.items() if digest in listed}
    unknown = {
        model.digest: model.name
        for model in models
        if model.digest and not model.capabilities and model.digest not in remembered.shown
    }
    try:
        async with asyncio.timeout(SHOWING):
            for digest, name in list(unknown.items())[:MOST_SHOWN]:
                remembered.shown[digest] = await _shown(http, name)
    except (TimeoutError, LocalModelsError):
        return  # the list is good, and that is what was asked for


async def _shown(http: Http, model: str) -> Shown:
    try:
        return told.read_shown(await http.post("/api/show", offered.write_show(model), most=MOST_LIST))
    except (CallerError, Garbled):  # it tells nothing of this one, and would not tell more the next time
        return Shown()


def _known(model: Model, remembered: Remembered) -> Model:
    """With what it has told of it alone."""
    shown = remembered.shown.get(model.digest)
    if shown is None or model.capabilities:
        return model
    return replace(model, capabilities=shown.capabilities, context_length=model.context_length or shown.context_length)
