"""OpenAI's API: chat completions, completions, embeddings, models."""

from __future__ import annotations

from localmodels.dialects.table import DIALECTS
from localmodels.flows.answering.choices import Choices
from localmodels.server.inference import Codec, EventRoute, WholeRoute
from localmodels.server.parts import Parts
from localmodels.server.relay import relaying
from localmodels.server.routes import Row
from localmodels.server.rows.anthropic import ByVersion

NAME = "openai"


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    dialect, answers, listings = DIALECTS[NAME], Choices(parts.answers), parts.listings
    chat = Codec(dialect.read_chat, answers.chat, dialect.chat_writer, dialect.write_chat_answer)
    complete = Codec(dialect.read_generate, answers.generate, dialect.generate_writer, dialect.write_generate_answer)
    chats = relaying(parts.relays, dialect, "chat", EventRoute(dialect, chat, "chatcmpl-"))
    texts = relaying(parts.relays, dialect, "generate", EventRoute(dialect, complete, "cmpl-"))
    embed = relaying(parts.relays, dialect, "embed", WholeRoute(listings.embed(dialect)))
    models = ByVersion(WholeRoute(listings.anthropic_models), WholeRoute(listings.openai_models))
    model = ByVersion(WholeRoute(listings.anthropic_model), WholeRoute(listings.openai_model))
    return (
        Row(("POST",), "/v1/chat/completions", NAME, "Goes on with a conversation.", chats, "chat"),
        Row(("POST",), "/v1/completions", NAME, "Goes on with a text.", texts, "text_completion"),
        Row(("POST",), "/v1/embeddings", NAME, "Turns texts into vectors.", embed, "embeddings"),
        Row(("GET",), "/v1/models", NAME, "The models that can be asked.", models),
        Row(("GET",), "/v1/models/{id:path}", NAME, "One model.", model),
    )
