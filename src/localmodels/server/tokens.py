"""``/tokenize`` and ``/detokenize``, in llama-server's form with the model's name added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct
from starlette.types import Scope

from localmodels.dialects import strict_json
from localmodels.flows.chat import Answers
from localmodels.server.wire import visit_of

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


_TOKENIZE = msgspec.json.Decoder(_Tokenize)
_DETOKENIZE = msgspec.json.Decoder(_Detokenize)


class Tokens:
    """The two routes; an empty model name is the default model."""

    def __init__(self, answers: Answers, default: Callable[[], Awaitable[str]]) -> None:
        self._answers = answers
        self._default = default

    async def tokenize(self, scope: Scope, body: bytes) -> bytes:
        """``{"content", "model"?, "add_special"?}`` to ``{"tokens"}``."""
        asked = strict_json.read(body, _TOKENIZE)
        model = asked.model or await self._default()
        tokens = await self._answers.tokenize(model, asked.content, visit_of(scope), special=asked.add_special)
        return _ENCODER.encode(_Tokens(tokens))

    async def detokenize(self, scope: Scope, body: bytes) -> bytes:
        """``{"tokens", "model"?}`` to ``{"content"}``."""
        asked = strict_json.read(body, _DETOKENIZE)
        model = asked.model or await self._default()
        return _ENCODER.encode(_Content(await self._answers.detokenize(model, asked.tokens, visit_of(scope))))
