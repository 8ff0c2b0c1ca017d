"""How many tokens a conversation is: no part of OpenAI's API, but vLLM answers it beside it, as SGLang does.

The rule: it is the conversation itself that is counted, as a chat would send it, by the template and the tokenizer of
the server.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest
from localmodels.core.errors import Garbled
from localmodels.dialects import figures
from localmodels.dialects.openai.requests import write_chat as write


class _Counted(Struct):
    count: int


_COUNTED = msgspec.json.Decoder(_Counted)

PATH = "/tokenize"


def write_count(request: ChatRequest) -> bytes:
    """The question, of ``POST /tokenize``."""
    return write(replace(request, stream=False))


def read_count(body: bytes) -> int:
    """The answer.

    Raises:
        Garbled: it is something else.
    """
    try:
        count = _COUNTED.decode(body).count
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's count of tokens is none: {error}") from error
    return figures.counted(count)
