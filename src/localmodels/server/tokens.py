"""``/tokenize`` and ``/detokenize``, in llama-server's form with the model's name added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from msgspec import Struct
from starlette.types import Scope

from localmodels.dialects import strict_json
from localmodels.flows.answering.chat import Answers
from localmodels.server.inference import decoded
from localmodels.server.wire import visit_of

_ENCODER = msgspec.json.Encoder()


class Tokenize(Struct, frozen=True):
    """``POST /tokenize``."""

    content: str
    model: str = ""
    add_special: bool = False


class Tokenized(Struct, frozen=True):
    """Its answer."""

    tokens: tuple[int, ...]


class Detokenize(Struct, frozen=True):
    """``POST /detokenize``."""

    tokens: tuple[int, ...]
    model: str = ""


class Content(Struct, frozen=True):
    """Its answer."""

    content: str


_TOKENIZE = msgspec.json.Decoder(Tokenize)
_DETOKENIZE = msgspec.json.Decoder(Detokenize)


class Tokens:
    """The two routes; an empty model name is the default model."""

    def __init__(self, answers: Answers, default: Callable[[], Awaitable[str]]) -> None:
        self._answers = answers
        self._default = default

    async def tokenize(self, scope: Scope, body: bytes) -> bytes:
        """``{"content", "model"?, "add_special"?}`` to ``{"tokens"}``."""
        asked = await decoded(partial(strict_json.read, decoder=_TOKENIZE), body)
        model = asked.model or await self._default()
        tokens = await self._answers.tokenize(model, asked.content, visit_of(scope), special=asked.add_special)
        return _ENCODER.encode(Tokenized(tokens))

    async def detokenize(self, scope: Scope, body: bytes) -> bytes:
        """``{"tokens", "model"?}`` to ``{"content"}``."""
        asked = await decoded(partial(strict_json.read, decoder=_DETOKENIZE), body)
        model = asked.model or await self._default()
        return _ENCODER.encode(Content(await self._answers.detokenize(model, asked.tokens, visit_of(scope))))
