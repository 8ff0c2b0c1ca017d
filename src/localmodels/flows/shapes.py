"""Answers that must be JSON, looked at on their way out.

llama.cpp's route for raw texts goes on without a grammar when it cannot compile the schema, and says nothing. So what
comes is read along; an answer that is no JSON ends with an error instead of a success.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from localmodels.core.chat import Chunk, Event
from localmodels.core.errors import EngineError

Stream = AsyncGenerator[list[Event], None]
_WORDS = ("true", "false", "null")
# A number that breaks off is read as a number and a strange sign behind it.
_NUMBER_ENDS = (".", "e", "E", "e+", "e-", "E+", "E-")


async def kept(stream: Stream) -> Stream:
    """The events of an answer that must be JSON.

    Raises:
        EngineError: it is none. What was handed on before is no answer.
    """
    said = ""
    async with aclosing(stream) as events:
        async for some in events:
            said += "".join(event.text for event in some if isinstance(event, Chunk))
            if not is_json_so_far(said):
                raise EngineError("the engine could not keep to this format; a simpler schema may help")
            yield some


def is_json_so_far(text: str) -> bool:
    """Is this JSON, or the beginning of some? Of what breaks off in the middle of an escape or a number, too."""
    text = text.strip()
    if not text:
        return True
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        rest = text[error.pos :]
        return (
            not rest.strip()
            or error.msg.startswith(("Unterminated string", "Invalid \\"))
            or any(word.startswith(rest) for word in (*_WORDS, "-"))
            or (rest in _NUMBER_ENDS and text[error.pos - 1].isdigit())
        )
    return True
