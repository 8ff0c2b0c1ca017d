"""The gateway's own API (seed 003): chats of one message, and a list of models."""

from __future__ import annotations

from starlette.types import Scope

from localmodels.core.chat import ChatRequest
from localmodels.core.errors import NotFound
from localmodels.dialects.gateway import at_address
from localmodels.dialects.table import GATEWAY
from localmodels.server.inference import Codec, EventRoute, WholeRoute
from localmodels.server.parts import Parts
from localmodels.server.routes import Row

NAME = "plain"


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    codec = Codec(GATEWAY.read_chat, parts.answers.chat, GATEWAY.chat_writer, GATEWAY.write_chat_answer)
    chat = EventRoute(GATEWAY, codec, "", addressed=addressed, listed=True, most=parts.chat_timeout)
    models = WholeRoute(parts.listings.gateway_models)
    return (
        Row(("GET",), "/models", NAME, "The models that can be asked.", models),
        Row(("POST",), "/chat", NAME, "Answers one message.", chat, "chat"),
        Row(("POST",), "/chat/{model_name:path}", NAME, "Answers one message, by this model.", chat, "chat"),
    )


def addressed(request: ChatRequest, scope: Scope) -> ChatRequest:
    """The request with the model that its address names.

    Raises:
        NotFound: ``/chat/`` names none.
        InvalidRequest: it names another one itself.
    """
    name = scope["path_params"].get("model_name")
    if name == "":
        raise NotFound("there is nothing at /chat/; a model's name comes after it")
    return at_address(request, name) if name else request
