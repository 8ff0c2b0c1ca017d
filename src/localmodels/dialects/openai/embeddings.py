"""OpenAI's embeddings and list of models, in both roles."""

from __future__ import annotations

import binascii
import sys
from array import array
from base64 import b64decode, b64encode

import msgspec

from localmodels.core.chat import Embeddings, EmbedRequest
from localmodels.core.errors import Garbled, InvalidValue
from localmodels.core.options import NO_OPTIONS, parse_options
from localmodels.dialects import asked, figures, strict_json
from localmodels.dialects.durations import read_keep_alive, write_keep_alive
from localmodels.dialects.openai import wire
from localmodels.dialects.openai.answers import read_timings, write_timings
from localmodels.dialects.openai.completions import token_ids
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

_EMBED = msgspec.json.Decoder(wire.Embed)
_EMBEDDED = msgspec.json.Decoder(wire.Embedded)
_LISTED = msgspec.json.Decoder(wire.Listed)


def read_embed(body: bytes) -> EmbedRequest:
    """``POST /v1/embeddings``. Without ``model`` it is the default model that is asked (seed 003)."""
    sent = strict_json.read(body, _EMBED)
    given = asked.required(sent.input or None, "input")
    single = isinstance(given, str) or not isinstance(given[0], (str, list))
    inputs = (given,) if single else tuple(asked.at_most(given, asked.MAX_INPUTS, "input"))
    if sent.encoding_format not in {None, "float", "base64"}:
        raise InvalidValue("encoding_format must be float or base64", param="encoding_format")
    return EmbedRequest(
        model=sent.model or "",
        inputs=tuple(text if isinstance(text, str) else token_ids(text, "input") for text in inputs),
        single=single,
        dimensions=asked.within(sent.dimensions, 1, 2**20, "dimensions"),
        encoding="base64" if sent.encoding_format == "base64" else "float",
        truncate=sent.truncation != "disabled",
        options=parse_options(sent.options, prefix="options.") if sent.options else NO_OPTIONS,
        keep_alive=read_keep_alive(sent.keep_alive),
    )


class _Shortening(wire.Embed, omit_defaults=True, kw_only=True):
    """With vLLM's word for how many tokens are read of each input; -1 is as many as its model can."""

    truncate_prompt_tokens: int | None = None


def write_embed(request: EmbedRequest, *, shortening: bool = False) -> bytes:
    """The request as a client sends it.

    Args:
        request: without its ``truncate``, which OpenAI does not know: what is too long is refused there.
        shortening: have vLLM cut what is too long; others may refuse the request for this.
    """
    inputs = [text if isinstance(text, str) else list(text) for text in request.inputs]
    return encode(
        _Shortening(
            truncate_prompt_tokens=-1 if shortening else None,
            model=request.model,
            input=inputs[0] if request.single and len(inputs) == 1 else inputs,
            encoding_format="base64" if request.encoding == "base64" else None,
            dimensions=request.dimensions,
            truncation=None if request.truncate else "disabled",
            keep_alive=write_keep_alive(request.keep_alive),
            options=asked.write_options(request.options) or None,
        )
    )


def write_embeddings(stamp: Stamp, request: EmbedRequest, embeddings: Embeddings) -> bytes:
    """``/v1/embeddings``, as numbers or as float32 in base64."""
    packed = request.encoding == "base64"
    tokens = embeddings.prompt_tokens
    return encode(
        wire.Embedded(
            data=tuple(wire.Embedding(_pack(row) if packed else row, i) for i, row in enumerate(embeddings.vectors)),
            model=stamp.model,
            usage=wire.EmbeddingUsage(tokens, tokens),
            timings=write_timings(embeddings.timings),
        )
    )


def read_embeddings(body: bytes) -> Embeddings:
    """``/v1/embeddings``, in whichever order the vectors come.

    Raises:
        Garbled: it is something else.
    """
    try:
        said = _EMBEDDED.decode(body)
        rows = sorted(said.data, key=lambda row: row.index)
        vectors = tuple(_unpack(row.embedding) if isinstance(row.embedding, str) else row.embedding for row in rows)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise Garbled(f"the server's answer is not OpenAI's: {error}") from error
    usage = said.usage.prompt_tokens if said.usage else None
    return Embeddings(vectors, figures.tokens(usage), read_timings(said.timings or None))


def _pack(vector: tuple[float, ...]) -> str:
    return b64encode(_swapped(array("f", vector)).tobytes()).decode("ascii")


def _unpack(text: str) -> tuple[float, ...]:
    return tuple(_swapped(array("f", b64decode(text, validate=True))))


def _swapped(numbers: array[float]) -> array[float]:
    """Little-endian, as everybody sends it."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def read_models(body: bytes) -> tuple[str, ...]:
    """Ids from ``/v1/models``.

    Raises:
        Garbled: it is something else.
    """
    try:
        said = _LISTED.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's list is not OpenAI's: {error}") from error
    return tuple(model.id for model in said.data or ())
