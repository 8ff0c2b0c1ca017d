"""What a server tells of itself when it is asked how it is: its version, its models, what is in its memory.

The one rule: what it tells is believed as far as it is sound. A name that nobody could say is left out, a number or a
digest that is none is not known, the list ends at its 2,000th model (and says so); but a body that is no list, and one
that says two things of the same model, is a failure (:class:`~localmodels.core.errors.Garbled`). Names are those that
the server gives its models.

Fields as of Ollama's ``api/types.go`` (August 2026), llama.cpp's ``tools/server`` (build 11549), vLLM's and
Anthropic's lists; what else is there is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from math import inf
from typing import Any, TypeVar, get_args
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core import via
from localmodels.core.catalog import Capability, Details, Model, Running, Status
from localmodels.core.errors import Garbled
from localmodels.core.moment import nanoseconds, rfc3339
from localmodels.core.servers import MODEL_NAME
from localmodels.dialects import listing

T = TypeVar("T")

MOST_MODELS = 2_000
# Models of one page of Anthropic's list, the most that it gives.
PAGE = 1_000
_LARGEST = 2**53  # what JSON's numbers hold exactly; no model has more bytes or tokens
_LATEST = ":latest"
# Seconds by which two machines' clocks may differ. vLLM, SGLang and llama.cpp's server tell the time of their answer as
# the moment at which a model was made; taken for that, each look would find every model new.
LATELY = 300.0
# Programs (as ``owned_by``) that keep in memory what they list, adapters included.
_RESIDENT = frozenset(("vllm", "sglang"))
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_VERSION = re.compile(r"[\x21-\x7e]{1,64}")
# Anthropic's words for what a model can do beyond what all of its can.
_SUPPORTED: Mapping[str, Capability] = {"image_input": "vision", "thinking": "thinking"}
_STATUSES: Mapping[str, Status] = {"loading": "loading", "stopping": "stopping"}
_CAPABILITIES: Collection[str] = frozenset(get_args(Capability))


class Told(Struct, frozen=True):
    """What one told.

    Attributes:
        models: all that it has, in its order. ``digest`` is hexadecimal, ``modified_at`` RFC 3339; both are empty, and
            ``size`` and ``context_length`` 0, where it does not tell.
        version: of its program; empty where it does not tell.
        gateway: what it calls itself on the way of requests; empty where it is none of us.
        whole: does it answer by no other names? Not every server lists all that it answers by, and some list nothing.
        more: has it further models, beyond the bound of a list?
        running: what is in its memory, or on its way there; None where it does not tell.
        memory_free: bytes that another model could take; None where it does not tell.
        busy: requests that it answers now, whoever sent them; None where it does not tell.
    """

    models: tuple[Model, ...] = ()
    version: str = ""
    running: tuple[Running, ...] | None = None
    memory_free: int | None = None
    busy: int | None = None
    gateway: str = ""
    whole: bool = False
    more: bool = False


class About(Struct, frozen=True):
    """What a server tells of its program.

    Attributes:
        version: empty where it is none.
        gateway: see :class:`Told`.
    """

    version: str = ""
    gateway: str = ""


class Shown(Struct, frozen=True):
    """What a server tells of one model when it is asked for that alone."""

    capabilities: tuple[Capability, ...] = ()
    context_length: int = 0


class Held(Struct, frozen=True):
    """What is in a server's memory, and what is left of that; see :class:`Told`."""

    running: tuple[Running, ...] | None = None
    memory_free: int | None = None


class Entries(Struct, frozen=True):
    """A list, or one page of it.

    Attributes:
        running: names of those that are in memory; None where nothing is said of that.
        following: the query of the next page; empty after the last.
        more: were there more than are taken?
    """

    models: tuple[Model, ...]
    running: tuple[str, ...] | None = None
    following: str = ""
    more: bool = False


class Props(Struct, frozen=True):
    """What llama.cpp's server tells of itself.

    Attributes:
        context_length: tokens of one request; 0 where it does not tell.
        can: what its model can do beyond going on with texts.
        sleeps: has it put its model out of memory?
        routes: has it many models, each of which says for itself whether it is in memory?
    """

    version: str = ""
    context_length: int = 0
    can: tuple[Capability, ...] = ()
    sleeps: bool = False
    routes: bool = False


# Fields are taken as they come: one that is odd must not cost the whole list.


class _Tag(Struct):
    name: Any = ""
    model: Any = ""
    modified_at: Any = ""
    size: Any = 0
    digest: Any = ""
    details: Any = None
    capabilities: Any = ()
    context_length: Any = 0
    gateways: Any = ()


class _Tags(Struct):
    models: tuple[_Tag, ...] | None


class _Process(Struct):
    name: Any = ""
    model: Any = ""
    size: Any = 0
    digest: Any = ""
    details: Any = None
    expires_at: Any = ""
    size_vram: Any = 0
    context_length: Any = 0
    status: Any = ""
    pid: Any = 0
    parallel: Any = 1
    busy: Any = 0
    queued: Any = 0
    server: Any = ""
    gateways: Any = ()


class _Processes(Struct):
    models: tuple[_Process, ...] | None
    memory_free: Any = None


class _Entry(Struct):
    id: Any = ""
    owned_by: Any = ""
    parent: Any = ""
    created: Any = None
    created_at: Any = ""
    capabilities: Any = None
    context_length: Any = 0
    max_model_len: Any = 0
    max_input_tokens: Any = 0
    meta: Any = None
    status: Any = None
    architecture: Any = None
    gateways: Any = ()


class _Entries(Struct):
    data: tuple[_Entry, ...] | None
    has_more: Any = False
    last_id: Any = ""


class _Version(Struct):
    version: Any = ""
    gateway: Any = ""


class _Show(Struct):
    capabilities: Any = ()
    model_info: Any = None


class _Props(Struct):
    build_info: Any = ""
    default_generation_settings: Any = None
    modalities: Any = None
    chat_template_caps: Any = None
    is_sleeping: Any = False
    role: Any = ""


class _Slot(Struct):
    is_processing: Any = False


def read_version(body: bytes) -> str:
    """Of ``/api/version`` and ``/version``; empty where it is none.

    Raises:
        Garbled: it is something else.
    """
    return version(_decode(body, _Version).version)


def read_about(body: bytes) -> About:
    """Of ``/api/version``, Ollama's and ours.

    Raises:
        Garbled: it is something else.
    """
    told = _decode(body, _Version)
    return About(version(told.version), told.gateway if via.is_name(told.gateway) else "")


def version(told: object) -> str:
    """The version of a program, if that is what it is."""
    return told if isinstance(told, str) and _VERSION.fullmatch(told) else ""


def read_tags(body: bytes) -> Entries:
    """The models of ``/api/tags``, Ollama's.

    Raises:
        Garbled: it is something else, or has the same model twice with different digests.
    """
    models = _sound(map(_of_tag, _decode(body, _Tags).models or ()))
    return Entries(models[:MOST_MODELS], more=len(models) > MOST_MODELS)


def read_ps(body: bytes) -> tuple[Running, ...]:
    """What ``/api/ps``, Ollama's and ours, says to be in memory.

    Raises:
        Garbled: it is something else.
    """
    running = map(_of_process, _decode(body, _Processes).models or ())
    return tuple(one for one in running if MODEL_NAME.fullmatch(one.model.name))[:MOST_MODELS]


def read_held(body: bytes) -> Held:
    """The same, and what more would find room there, which only a LocalModels tells. Raises as :func:`read_ps`."""
    free = _decode(body, _Processes).memory_free
    return Held(read_ps(body), 0 if free == 0 and free is not False else _whole(free) or None)


def read_shown(body: bytes) -> Shown:
    """What ``/api/show``, Ollama's, says of a model.

    Raises:
        Garbled: it is something else.
    """
    shown = _decode(body, _Show)
    info = shown.model_info if isinstance(shown.model_info, dict) else {}
    architecture = info.get("general.architecture")
    return Shown(_capabilities(shown.capabilities), _whole(info.get(f"{architecture}.context_length")))


def read_entries(body: bytes, now: float = inf) -> Entries:
    """The models of ``/v1/models``: OpenAI's, vLLM's, llama.cpp's or Anthropic's.

    Args:
        body: as it came.
        now: seconds since 1970 at which it came; a moment of just now tells nothing of a model.

    Raises:
        Garbled: it is something else.
    """
    told = _decode(body, _Entries)
    entries = told.data or ()
    sound = _sound(_of_entry(entry, now) for entry in entries)
    models = _like_their_parents(sound[:MOST_MODELS], entries)
    states = {one.id: _state(one) for one in entries if isinstance(one.id, str)}
    warm = tuple(model.name for model in models if states[model.name] in {"loaded", "loading"})
    more = told.has_more is True and isinstance(told.last_id, str) and bool(entries)
    return Entries(
        models,
        running=warm if any(states.values()) else None,
        following=f"?limit={PAGE}&after_id={quote(told.last_id, safe='')}" if more else "",
        more=len(sound) > MOST_MODELS,
    )


def read_props(body: bytes) -> Props:
    """``/props``, llama.cpp's.

    Raises:
        Garbled: it is something else.
    """
    told = _decode(body, _Props)
    can: dict[Capability, bool] = {
        "tools": _said(told.chat_template_caps, "supports_tools") is True,
        "vision": _said(told.modalities, "vision") is True,
    }
    return Props(
        version=version(told.build_info),
        context_length=_whole(_said(told.default_generation_settings, "n_ctx")),
        can=tuple(word for word, told in can.items() if told),
        sleeps=told.is_sleeping is True,
        routes=told.role == "router",
    )


def read_slots(body: bytes) -> int:
    """How many of llama.cpp's ``/slots`` are at work.

    Raises:
        Garbled: it is something else.
    """
    return sum(slot.is_processing is True for slot in _decode(body, tuple[_Slot, ...]))


def in_memory(model: Model, context_length: int = 0) -> Running:
    """A model of which its server says only that it is in memory."""
    return Running(model, "running", 0, model.size, 0, "", context_length)


def _of_tag(tag: _Tag) -> Model:
    told = tag.details if isinstance(tag.details, dict) else {}
    name, digest = _text(tag.name) or _text(tag.model), _digest(tag.digest)
    return Model(
        name=name,
        size=_whole(tag.size),
        digest="" if listing.is_stand_in(digest, name) else digest,
        modified_at=_moment(tag.modified_at),
        details=_details(told),
        capabilities=_capabilities(tag.capabilities),
        context_length=_whole(tag.context_length) or _whole(told.get("context_length")),
        embedding_length=_whole(told.get("embedding_length")),
        gateways=via.names(tag.gateways),
    )


def _of_process(row: _Process) -> Running:
    name, digest = _text(row.name) or _text(row.model), _digest(row.digest)
    details = row.details if isinstance(row.details, dict) else {}
    digest = "" if listing.is_stand_in(digest, name) else digest
    return Running(
        model=Model(name, _whole(row.size), digest, "", _details(details), gateways=via.names(row.gateways)),
        status=_STATUSES.get(_text(row.status), "running"),
        pid=_whole(row.pid),
        size=_whole(row.size),
        size_vram=_whole(row.size_vram),
        expires_at=_text(row.expires_at) if _moment(row.expires_at) else "",
        context_length=_whole(row.context_length),
        parallel=_whole(row.parallel) or 1,
        busy=_whole(row.busy),
        queued=_whole(row.queued),
        server=_text(row.server)[:80],
    )


def _state(entry: _Entry) -> str:
    """In llama.cpp's words; empty where nothing is said of that."""
    if _text(entry.owned_by) in _RESIDENT:
        return "loaded"
    return _word(entry.status, "value")


def _like_their_parents(models: tuple[Model, ...], entries: Iterable[_Entry]) -> tuple[Model, ...]:
    """An adapter of which its server, vLLM, tells only whose it is has that model's context."""
    contexts = {model.name: model.context_length for model in models}
    parents = {_text(entry.id): _text(entry.parent) for entry in entries if _text(entry.parent) in contexts}
    return tuple(
        replace(model, context_length=model.context_length or contexts[parents[model.name]])
        if model.name in parents
        else model
        for model in models
    )


def _of_entry(entry: _Entry, now: float) -> Model:
    meta = entry.meta if isinstance(entry.meta, dict) else {}
    contexts = (meta.get("n_ctx"), entry.max_model_len, entry.context_length, entry.max_input_tokens)
    return Model(
        name=_text(entry.id),
        size=_whole(meta.get("size")),
        digest="",
        modified_at=_moment(entry.created_at) or _since_1970(entry.created, now - LATELY),
        capabilities=_can(entry),
        context_length=next(filter(None, map(_whole, (*contexts, meta.get("n_ctx_train")))), 0),
        gateways=via.names(entry.gateways),
    )


def _can(entry: _Entry) -> tuple[Capability, ...]:
    """In whichever of three ways it is told: words (ours), a table of what is supported (Anthropic), what it reads."""
    if isinstance(entry.capabilities, dict):
        told = entry.capabilities
        more = (word for field, word in _SUPPORTED.items() if _said(told.get(field), "supported") is True)
        return ("completion", "tools", *more)
    if entry.capabilities:
        return _capabilities(entry.capabilities)
    reads = _said(entry.architecture, "input_modalities")
    if not isinstance(reads, list):
        return ()
    return ("completion", "vision") if "image" in reads else ("completion",)


def _sound(models: Iterable[Model]) -> tuple[Model, ...]:
    """Those that can be asked for, each once; one beyond the bound is enough to know that there are more."""
    sound: dict[str, Model] = {}
    for model in models:
        if len(sound) > MOST_MODELS:
            break
        if not MODEL_NAME.fullmatch(model.name):
            continue
        first = sound.setdefault(model.name.removesuffix(_LATEST), model)
        if first.digest != model.digest:
            raise Garbled(f"the server lists {model.name!r} twice, with different digests")
    return tuple(sound.values())


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"what the server tells of itself is not what it should be: {error}"[:300]) from error


def _said(value: object, field: str) -> object:
    return value.get(field) if isinstance(value, dict) else None


def _word(value: object, field: str) -> str:
    return _text(_said(value, field))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int:
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST
    return value if sound else 0  # type: ignore[return-value]


def _digest(value: object) -> str:
    found = _DIGEST.fullmatch(_text(value))
    return found[1] if found else ""


def _details(told: dict[str, Any]) -> Details:
    families = told.get("families")
    return Details(
        format=_text(told.get("format"))[:80],
        family=_text(told.get("family"))[:80],
        families=tuple(_text(one)[:80] for one in families[:20]) if isinstance(families, list) else (),
        parameter_size=_text(told.get("parameter_size"))[:80],
        quantization_level=_text(told.get("quantization_level"))[:80],
        parent_model=_text(told.get("parent_model"))[:300],
    )


def _capabilities(told: object) -> tuple[Capability, ...]:
    if not isinstance(told, (list, tuple)):
        return ()
    return tuple(dict.fromkeys(word for word in told[:100] if isinstance(word, str) and word in _CAPABILITIES))  # type: ignore[misc]


def _moment(told: object) -> str:
    try:
        return rfc3339(nanoseconds(_text(told)))
    except (ValueError, OverflowError):
        return ""


def _since_1970(seconds: object, before: float) -> str:
    try:
        return rfc3339(_whole(seconds) * 10**9) if 0 < _whole(seconds) < before else ""
    except (ValueError, OverflowError, OSError):
        return ""
