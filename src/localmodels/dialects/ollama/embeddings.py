"""Ollama's answers to embedding requests, today's and the legacy one."""

from __future__ import annotations

import msgspec

from localmodels.core.chat import Embeddings, EmbedRequest
from localmodels.core.errors import Garbled
from localmodels.dialects import figures
from localmodels.dialects.ollama import wire
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

_EMBEDDED = msgspec.json.Decoder(wire.Embedded)
_LISTED = msgspec.json.Decoder(wire.Listed)


def write_embeddings(stamp: Stamp, request: EmbedRequest, embeddings: Embeddings) -> bytes:
    """``/api/embed``."""
    timings = embeddings.timings
    return encode(wire.Embedded(stamp.model, embeddings.vectors, timings.total, timings.load, embeddings.prompt_tokens))


def write_legacy_embeddings(embeddings: Embeddings) -> bytes:
    """``/api/embeddings``: one vector, empty for an empty prompt."""
    return encode(wire.LegacyEmbedded(embeddings.vectors[0] if embeddings.vectors else ()))


def read_embeddings(body: bytes) -> Embeddings:
    """``/api/embed``.

    Raises:
        Garbled: it is something else.
    """
    try:
        said = _EMBEDDED.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not Ollama's: {error}") from error
    timings = figures.timings(said.total_duration, said.load_duration)
    return Embeddings(said.embeddings, figures.tokens(said.prompt_eval_count), timings)


def read_models(body: bytes) -> tuple[str, ...]:
    """Names from ``/api/tags``.

    Raises:
        Garbled: it is something else.
    """
    try:
        said = _LISTED.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's list is not Ollama's: {error}") from error
    return tuple(name for model in said.models or () if (name := model.name or model.model))
