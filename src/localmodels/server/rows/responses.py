"""OpenAI's Responses API. Its errors are those of OpenAI's other routes."""

from __future__ import annotations

from localmodels.server.inference import WholeRoute
from localmodels.server.parts import Parts
from localmodels.server.responses import CreateRoute, KeptRoute, Replies
from localmodels.server.routes import Row

NAME = "openai"


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    flow = parts.responses
    create, kept, replies = CreateRoute(flow), KeptRoute(flow), Replies(flow)
    count, compact = WholeRoute(replies.count), WholeRoute(replies.compact)
    cancel, items = WholeRoute(replies.cancel), WholeRoute(replies.items)
    one = "/v1/responses/{id}"
    return (
        Row(("POST",), "/v1/responses", NAME, "Answers, and keeps the answer.", create, "chat"),
        Row(("POST",), "/v1/responses/input_tokens", NAME, "Tokens of what would be asked.", count),
        Row(("POST",), "/v1/responses/compact", NAME, "Refused: conversations are not compacted.", compact),
        Row(("GET", "DELETE"), one, NAME, "A response that is kept; takes it away.", kept),
        Row(("POST",), f"{one}/cancel", NAME, "Breaks a background response off.", cancel),
        Row(("GET",), f"{one}/input_items", NAME, "What was sent with a response.", items),
    )
