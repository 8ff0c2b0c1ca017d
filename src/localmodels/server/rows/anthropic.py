"""Anthropic's API: messages and their tokens. Its form of the list of models is at OpenAI's address."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from localmodels.dialects.anthropic import VERSION_HEADER, Anthropic, answers
from localmodels.server.inference import Codec, EventRoute, Reply, WholeRoute, decoded
from localmodels.server.parts import Parts
from localmodels.server.pings import Pulse
from localmodels.server.relay import relaying
from localmodels.server.routes import Row
from localmodels.server.wire import header, visit_of

NAME = "anthropic"
DIALECT = Anthropic()


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    chat = Codec(DIALECT.read_chat, parts.answers.chat, DIALECT.chat_writer, DIALECT.write_chat_answer)
    messages = relaying(parts.relays, DIALECT, "chat", EventRoute(DIALECT, chat, "msg_", pulse=Pulse(answers.PING)))
    count = relaying(parts.relays, DIALECT, "count", WholeRoute(counted(parts)))
    return (
        Row(("POST",), "/v1/messages", NAME, "Goes on with a conversation.", messages, "chat"),
        Row(("POST",), "/v1/messages/count_tokens", NAME, "Tokens of a conversation.", count),
    )


def counted(parts: Parts) -> Reply:
    """How many tokens the model itself would read."""

    async def reply(scope: Scope, body: bytes) -> bytes:
        request = await decoded(DIALECT.read_count, body)
        return DIALECT.write_count(await parts.answers.count(request, visit_of(scope)))

    return reply


class ByVersion:
    """Two APIs at one address: whoever names a version of Anthropic's gets its form, everybody else the other.

    Args:
        versioned: answers in Anthropic's form.
        others: answers everybody else.
    """

    def __init__(self, versioned: ASGIApp, others: ASGIApp) -> None:
        self._versioned = versioned
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        await (self._versioned if header(scope, VERSION_HEADER) else self._others)(scope, receive, send)
