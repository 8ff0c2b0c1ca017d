"""Anthropic's Messages API, in both roles.

The table of this dialect: each name of the protocol and the function that does it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.dialects import failures
from localmodels.dialects.allowances import anthropic_level
from localmodels.dialects.anthropic import answers, counting, models, reader, requests
from localmodels.dialects.anthropic.wire import Failure
from localmodels.dialects.framing import SSE
from localmodels.dialects.judges import AnthropicJudge
from localmodels.dialects.peek import Way
from localmodels.dialects.protocol import Call

# In which every request of this API says which one it means, and so shows that it is one of this API's.
VERSION_HEADER = b"anthropic-version"


class Anthropic:
    """A :class:`~localmodels.dialects.protocol.ChatDialect` that also counts tokens and lists models."""

    name: str = "anthropic"
    title: str = "Anthropic's API"
    roots: tuple[str, ...] = ("/v1/messages",)
    failure: type[Struct] = Failure
    stream_type: str = SSE
    way: Way | None = Way("anthropic", SSE, AnthropicJudge, lambda body: b"event: error\ndata: %b\n\n" % body)
    paths: Mapping[Call, str] = {
        "chat": "/v1/messages",
        "count": "/v1/messages/count_tokens",
        "models": "/v1/models?limit=1000",  # all in one page; without it there are 20
    }

    read_chat = staticmethod(requests.read_chat)
    write_chat = staticmethod(requests.write_chat)
    chat_writer = answers.ChatWriter
    chat_reader = staticmethod(reader.reader)
    write_chat_answer = staticmethod(answers.write_chat_answer)
    read_chat_answer = staticmethod(reader.read_answer)

    read_count = staticmethod(requests.read_count)
    write_count_request = staticmethod(requests.write_count_request)
    write_count = staticmethod(counting.write_count)
    read_count_answer = staticmethod(counting.read_count_answer)

    write_models = staticmethod(models.write_models)
    write_model = staticmethod(models.write_model)
    read_models = staticmethod(models.read_models)

    write_error = staticmethod(answers.write_error)
    status = staticmethod(answers.status)
    write_level = staticmethod(anthropic_level)
    read_error = staticmethod(failures.read_error)
