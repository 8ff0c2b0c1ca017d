"""OpenAI's API (chat completions, completions, embeddings), in both roles.

The table of this dialect: each name of the protocol and the function that does it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.dialects import failures
from localmodels.dialects.allowances import openai_level
from localmodels.dialects.framing import SSE
from localmodels.dialects.judges import OpenAIJudge
from localmodels.dialects.openai import answers, completions, embeddings, requests
from localmodels.dialects.openai.wire import Failure
from localmodels.dialects.peek import Way
from localmodels.dialects.protocol import Call


class OpenAI:
    """A :class:`~localmodels.dialects.protocol.Dialect`."""

    name: str = "openai"
    title: str = "OpenAI's API"
    roots: tuple[str, ...] = ("/v1/",)
    failure: type[Struct] = Failure
    stream_type: str = SSE
    way: Way | None = Way("openai", SSE, OpenAIJudge, lambda body: b"data: %b\n\n" % body, must_ask=True)
    paths: Mapping[Call, str] = {
        "chat": "/v1/chat/completions",
        "generate": "/v1/completions",
        "embed": "/v1/embeddings",
        "models": "/v1/models",
        "rerank": "/v1/rerank",  # not OpenAI's own, but where all of its imitators have it
    }

    read_chat = staticmethod(requests.read_chat)
    write_chat = staticmethod(requests.write_chat)
    chat_writer = answers.ChatWriter
    chat_reader = staticmethod(answers.reader)
    write_chat_answer = staticmethod(answers.write_chat_answer)
    read_chat_answer = staticmethod(answers.read_answer)

    read_generate = staticmethod(completions.read_generate)
    write_generate = staticmethod(completions.write_generate)
    generate_writer = completions.TextWriter
    generate_reader = staticmethod(answers.reader)
    write_generate_answer = staticmethod(completions.write_generate_answer)
    read_generate_answer = staticmethod(answers.read_answer)

    read_embed = staticmethod(embeddings.read_embed)
    write_embed = staticmethod(embeddings.write_embed)
    write_embeddings = staticmethod(embeddings.write_embeddings)
    read_embeddings = staticmethod(embeddings.read_embeddings)

    write_error = staticmethod(answers.write_error)
    status = staticmethod(failures.status)
    write_level = staticmethod(openai_level)
    read_error = staticmethod(failures.read_error)
    read_models = staticmethod(embeddings.read_models)
