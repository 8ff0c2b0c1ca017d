"""How many tokens a request will take, as far as one can tell before anybody counts: for limits, which settle later."""

from __future__ import annotations

import msgspec

from localmodels.core.chat import ChatRequest, EmbedRequest, GenerateRequest, Image, Text
from localmodels.core.rerank import RerankRequest

# English has four characters a token, most other languages less; what is estimated too low is settled afterwards.
BYTES_A_TOKEN = 4
# Projectors of models that see make 256 to 1,024 tokens of a picture.
TOKENS_A_PICTURE = 576
# Of an answer whose length nobody limited.
USUAL_ANSWER = 256


def prompt_tokens(request: ChatRequest | GenerateRequest | EmbedRequest | RerankRequest) -> int:
    """Tokens of what is asked."""
    if isinstance(request, RerankRequest):  # the question is read beside each document
        return sum(map(_size, request.documents)) + len(request.documents) * _size(request.query)
    if isinstance(request, EmbedRequest):
        return sum(map(_size, request.inputs))
    if isinstance(request, GenerateRequest):
        prompts = (request.prompt, *request.prompts)
        texts = _size(request.suffix) + _size(request.system or "") + len(request.context)
        return sum(map(_size, prompts)) + texts + len(request.images) * TOKENS_A_PICTURE
    parts = [part for message in request.messages for part in message.parts]
    size = sum(len(part.text.encode()) for part in parts if isinstance(part, Text))
    size += len(msgspec.json.encode(request.tools)) if request.tools else 0
    size += sum(len(call.arguments) for message in request.messages for call in message.tool_calls)
    return size // BYTES_A_TOKEN + 1 + TOKENS_A_PICTURE * sum(isinstance(part, Image) for part in parts)


def answer_tokens(request: ChatRequest | GenerateRequest) -> int:
    """Most tokens that are to be expected of all answers."""
    asked = request.options.num_predict
    return (asked if asked and asked > 0 else USUAL_ANSWER) * max(1, request.n)


def _size(prompt: str | tuple[int, ...]) -> int:
    return len(prompt) if isinstance(prompt, tuple) else len(prompt.encode()) // BYTES_A_TOKEN + 1
