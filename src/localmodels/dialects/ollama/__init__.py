"""Ollama's API, as of its ``api/types.go`` of autumn 2026, in both roles.

The table of this dialect: each name of the protocol and the function that does it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.dialects import failures
from localmodels.dialects.allowances import openai_level
from localmodels.dialects.framing import NDJSON
from localmodels.dialects.judges import OllamaJudge
from localmodels.dialects.ollama import answers, embeddings, requests
from localmodels.dialects.ollama.embeddings import write_legacy_embeddings
from localmodels.dialects.ollama.requests import read_legacy_embed
from localmodels.dialects.ollama.wire import Failure
from localmodels.dialects.peek import Way
from localmodels.dialects.protocol import Call

__all__ = ["Ollama", "read_legacy_embed", "write_legacy_embeddings"]


class Ollama:
    """A :class:`~localmodels.dialects.protocol.Dialect`."""

    name: str = "ollama"
    title: str = "Ollama's API"
    roots: tuple[str, ...] = ("/api/", "/ollama/")
    failure: type[Struct] = Failure
    stream_type: str = NDJSON
    way: Way | None = Way("ollama", NDJSON, OllamaJudge, lambda body: body + b"\n", streams=True)
    paths: Mapping[Call, str] = {
        "chat": "/api/chat",
        "generate": "/api/generate",
        "embed": "/api/embed",
        "models": "/api/tags",
    }

    read_chat = staticmethod(requests.read_chat)
    write_chat = staticmethod(requests.write_chat)
    chat_writer = answers.ChatWriter
    chat_reader = staticmethod(answers.reader)
    write_chat_answer = staticmethod(answers.write_chat_answer)
    read_chat_answer = staticmethod(answers.read_answer)

    read_generate = staticmethod(requests.read_generate)
    write_generate = staticmethod(requests.write_generate)
    generate_writer = answers.TextWriter
    generate_reader = staticmethod(answers.reader)
    write_generate_answer = staticmethod(answers.write_generate_answer)
    read_generate_answer = staticmethod(answers.read_answer)

    read_embed = staticmethod(requests.read_embed)
    write_embed = staticmethod(requests.write_embed)
    write_embeddings = staticmethod(embeddings.write_embeddings)
    read_embeddings = staticmethod(embeddings.read_embeddings)

    write_error = staticmethod(answers.write_error)
    status = staticmethod(failures.status)
    write_level = staticmethod(openai_level)
    read_error = staticmethod(failures.read_error)
    read_models = staticmethod(embeddings.read_models)
