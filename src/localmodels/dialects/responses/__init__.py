"""OpenAI's Responses API, in both roles.

The table of this dialect: each name of the protocol and the function that does it. What only this API knows (responses
that are kept, items, tools of other kinds) is in :class:`~localmodels.dialects.responses.requests.Create`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.dialects import failures
from localmodels.dialects.allowances import openai_level
from localmodels.dialects.framing import SSE
from localmodels.dialects.openai.answers import write_error
from localmodels.dialects.openai.wire import Failure
from localmodels.dialects.peek import Way
from localmodels.dialects.protocol import Call
from localmodels.dialects.responses import answers, reading, requests


class Responses:
    """A :class:`~localmodels.dialects.protocol.ChatDialect`."""

    name: str = "responses"
    title: str = "OpenAI's Responses API"
    roots: tuple[str, ...] = ()
    failure: type[Struct] = Failure
    stream_type: str = SSE
    way: Way | None = None
    paths: Mapping[Call, str] = {"chat": "/v1/responses", "count": "/v1/responses/input_tokens"}

    read_chat = staticmethod(requests.read_chat)
    write_chat = staticmethod(requests.write_chat)
    chat_writer = staticmethod(answers.chat_writer)
    chat_reader = staticmethod(reading.reader)
    write_chat_answer = staticmethod(answers.write_chat_answer)
    read_chat_answer = staticmethod(reading.read_chat_answer)

    write_error = staticmethod(write_error)
    status = staticmethod(failures.status)
    write_level = staticmethod(openai_level)
    read_error = staticmethod(failures.read_error)
