"""The rows that are nobody's dialect."""

from __future__ import annotations

from localmodels.server.inference import WholeRoute
from localmodels.server.parts import Parts
from localmodels.server.routes import Row

NAME = "plain"


def first(parts: Parts) -> tuple[Row, ...]:
    """What a stranger looks at."""
    health = "Would a request be answered now? `?verbose=1` tells why."
    return (
        Row(("GET", "HEAD"), "/", NAME, "What this server is.", parts.status.root()),
        Row(("GET",), "/health", NAME, health, parts.status.health()),
    )


def rows(parts: Parts) -> tuple[Row, ...]:
    """The others."""
    tokenize, detokenize = WholeRoute(parts.tokens.tokenize), WholeRoute(parts.tokens.detokenize)
    return (
        Row(("POST",), "/tokenize", NAME, "Token ids of a text, by the model's tokenizer.", tokenize),
        Row(("POST",), "/detokenize", NAME, "The text of token ids.", detokenize),
    )
