"""How long a conversation is: Anthropic's ``count_tokens``."""

from __future__ import annotations

import msgspec

from localmodels.dialects import figures
from localmodels.dialects.anthropic import wire
from localmodels.dialects.anthropic.reader import decoded
from localmodels.dialects.strict_json import encode

_COUNT = msgspec.json.Decoder(wire.Count)


def write_count(tokens: int) -> bytes:
    """``{"input_tokens": N}``."""
    return encode(wire.Count(tokens))


def read_count_answer(body: bytes) -> int:
    """The same, as a client."""
    return figures.counted(decoded(body, _COUNT).input_tokens)
