"""``/tokenize`` and ``/detokenize``, in llama-server's form with the model's name added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.types import Scope

from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.flows.chat import Answers

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()


class _Tokenize(Struct, frozen=True):
    content: str
    model: str = ""
    add_special: bool = False


class _Tokens(Struct, frozen=True):
    tokens: tuple[int, ...]


class _Detokenize(Struct, frozen=True):
    tokens: tuple[int, ...]
    model: str = ""


class _Content(Struct, frozen=True):
    content: str


class Tokens:
    """The two routes; an empty model name is the default model."""

    def __init__(self, answers: Answers, default: Callable[[], Awaitable[str]]) -> None:
        self._answers = answers
        self._default = default

    async def tokenize(self, scope: Scope, body: bytes) -> bytes:
        """``{"content", "model"?, "add_special"?}`` to ``{"tokens"}``."""
        asked = read(body, _Tokenize)
        model = asked.model or await self._default()
        return _ENCODER.encode(_Tokens(await self._answers.tokenize(model, asked.content, special=asked.add_special)))

    async def detokenize(self, scope: Scope, body: bytes) -> bytes:
        """``{"tokens", "model"?}`` to ``{"content"}``."""
        asked = read(body, _Detokenize)
        model = asked.model or await self._default()
        return _ENCODER.encode(_Content(await self._answers.detokenize(model, asked.tokens)))


def read(body: bytes, shape: type[T]) -> T:
    """The body as a value of this shape.

    Raises:
        InvalidRequest: it is not JSON.
        InvalidValue: it is, of another shape; the message says where.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidValue(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
