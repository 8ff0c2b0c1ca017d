"""A request of each route that is answered: what the corpora begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL = "brief"
NOBODY = "http://127.0.0.1:9"  # the port of `discard`, where nobody listens
HI = [{"role": "user", "content": "Hi"}]

# A request of each route that is answered; the rest of the path where it is a pattern.
SOUND: Mapping[str, dict[str, Any]] = {
    "/api/chat": {"model": MODEL, "messages": HI, "stream": False},
    "/api/generate": {"model": MODEL, "prompt": "Hi", "stream": False},
    "/api/embed": {"model": "embedder", "input": ["a", "b"]},
    "/api/embeddings": {"model": "embedder", "prompt": "a"},
    "/api/rerank": {"model": "reranker", "query": "a", "documents": ["b", "c"]},
    "/api/show": {"model": MODEL},
    "/api/pull": {"model": "nobody/nothing", "stream": False},
    "/api/push": {"model": "nobody/nothing", "stream": False},
    "/api/create": {"model": "made", "from": MODEL, "stream": False},
    "/api/copy": {"source": MODEL, "destination": "copied"},
    "/api/delete": {"model": "copied"},
    "/api/keys": {"name": "made"},
    "/v1/chat/completions": {"model": MODEL, "messages": HI},
    "/v1/completions": {"model": MODEL, "prompt": "Hi"},
    "/v1/embeddings": {"model": "embedder", "input": "a"},
    "/v1/responses": {"model": MODEL, "input": "Hi"},
    "/v1/responses/input_tokens": {"model": MODEL, "input": "Hi"},
    "/v1/messages": {"model": MODEL, "messages": HI, "max_tokens": 8},
    "/v1/messages/count_tokens": {"model": MODEL, "messages": HI},
    "/v1/rerank": {"model": "reranker", "query": "a", "documents": ["b", "c"]},
    "/v2/rerank": {"model": "reranker", "query": "a", "documents": ["b", "c"]},
    "/rerank": {"model": "reranker", "query": "a", "texts": ["b", "c"]},
    "/chat": {"model": MODEL, "message": "Hi"},
    "/chat/{model_name}": {"message": "Hi"},
    "/tokenize": {"model": MODEL, "content": "Hi"},
    "/detokenize": {"model": MODEL, "tokens": [1, 2]},
}
METHODS: Mapping[str, str] = {"/api/delete": "DELETE"}


def filled(path: str) -> str:
    """A path without its pattern."""
    return path.replace("{model_name}", MODEL)
