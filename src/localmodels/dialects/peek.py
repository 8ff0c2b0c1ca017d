"""What has to be known of a request that passes through as it is, because both sides speak one dialect.

That is its model and whether its answer streams. The one rule: what one parser reads one way and another parser another
way does not pass, and every value that is not ours to change goes out byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.dialects import strict_json
from localmodels.dialects.judges import Judge

Fields = dict[str, msgspec.Raw]


# What limits an answer, in OpenAI's new and old words and Anthropic's; Ollama's word stands among its options.
_LIMITS = ("max_completion_tokens", "max_tokens")


class _Named(Struct):
    model: Any = None


_NAMED = msgspec.json.Decoder(_Named)
_FIELDS = msgspec.json.Decoder(Fields)
_ENCODER = msgspec.json.Encoder()


def model_of(body: bytes) -> str:
    """The name of the model in a body, however broken the rest may be; empty where there is none."""
    try:
        model = _NAMED.decode(body).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return model if isinstance(model, str) else ""


class Peek(Struct, frozen=True):
    """A request that passes.

    Attributes:
        fields: all of it, each value as its own bytes.
        stream: is the answer a stream?
        counted: does the stream end with usage without further asking?
    """

    fields: Fields
    stream: bool
    counted: bool = True

    def addressed(self, model: str) -> bytes:
        """The request for this model. Every value but the model's is byte for byte the caller's.

        A stream that would not be counted is asked to be; the answer to that is taken out of it again.
        """
        fields = {**self.fields, "model": msgspec.Raw(_ENCODER.encode(model))}
        if not self.counted:
            options = _object(self.fields.get("stream_options"))
            counting = {**options, "include_usage": msgspec.Raw(b"true")}
            fields["stream_options"] = msgspec.Raw(_ENCODER.encode(counting))
        return _ENCODER.encode(fields)

    def word(self, name: str) -> str:
        """A field that is a text; empty where it is none."""
        try:
            text = msgspec.json.decode(self.fields.get(name, msgspec.Raw(b"null")))
        except msgspec.DecodeError:
            return ""
        return text if isinstance(text, str) else ""

    @property
    def most_tokens(self) -> int | None:
        """Most tokens of all its answers; None where it sets no limit."""
        told = (*(self.fields.get(name) for name in _LIMITS), _object(self.fields.get("options")).get("num_predict"))
        limit = next((number for raw in told if (number := _whole(raw)) > 0), None)
        return None if limit is None else limit * max(1, _whole(self.fields.get("n")))


class Way(Struct, frozen=True):
    """How a dialect's answers pass.

    Attributes:
        name: of the dialect.
        content_type: of a stream.
        judge: makes the judge of one answer.
        broken: the frame that an error's body becomes in the middle of a stream.
        streams: is the answer a stream where the request does not say?
        must_ask: is usage told in a stream only to those who ask for it?
    """

    name: str
    content_type: str
    judge: Callable[[], Judge]
    broken: Callable[[bytes], bytes]
    streams: bool = False
    must_ask: bool = False


def peek(way: Way, body: bytes, *, streams: bool = True) -> Peek:
    """Looks at a request.

    Args:
        way: of the dialect that it is in.
        body: as it came.
        streams: can this call be answered by a stream at all?

    Raises:
        InvalidRequest, InvalidValue: it is no JSON object that every parser reads alike; ``stream`` is neither true nor
            false.
    """
    strict_json.check(body)
    try:
        fields = _FIELDS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not a JSON object: {error}") from error
    stream = streams and _switch("stream", fields.get("stream"), default=way.streams)
    if not (stream and way.must_ask):
        return Peek(fields, stream)
    asked = _object(fields.get("stream_options")).get("include_usage")
    return Peek(fields, stream, counted=_switch("stream_options.include_usage", asked, default=False))


def _switch(name: str, raw: msgspec.Raw | None, *, default: bool) -> bool:
    text = b"null" if raw is None else bytes(raw)
    try:
        return {b"true": True, b"false": False, b"null": default}[text]
    except KeyError:
        raise InvalidValue(f"{name} must be true or false", param=name) from None


def _whole(raw: msgspec.Raw | None) -> int:
    """A whole number; 0 for anything else."""
    text = b"" if raw is None else bytes(raw)
    return int(text) if text.isdigit() and len(text) < 10 else 0


def _object(raw: msgspec.Raw | None) -> Fields:
    """The fields of an object; none of anything else, which the server will refuse."""
    try:
        return _FIELDS.decode(raw) if raw is not None else {}
    except msgspec.DecodeError:
        return {}
