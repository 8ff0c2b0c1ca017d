"""The server that is attacked, and what it must say the same afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
from tests.acceptance.serving import PATIENCE, Served, serve
from tests.hostile.sound import NOBODY
from tools.random_model import TINY, write_random_model

# Small contexts, so that no request may keep a model busy for long; nobody attacks `golden` by name.
SMALL = replace(TINY, context=256)
MODELS: Mapping[str, dict[str, Any]] = {
    "brief": {"end_bias": 6.0, "shape": SMALL},
    "embedder": {"seed": 3, "embedding": True, "shape": SMALL},
    "reranker": {"seed": 5, "rerank": True, "shape": SMALL},
    "golden": {"seed": 7, "end_bias": -100.0, "shape": SMALL},
}
SERVERS = f'[[servers]]\nname = "gone"\nurl = "{NOBODY}"\nkind = "openai"\nmodels = ["bare"]\n'

HI = [{"role": "user", "content": "Hello!"}]
GREEDY = {"temperature": 0, "seed": 1}
# One question in each dialect.
QUESTIONS: Mapping[str, dict[str, Any]] = {
    "/api/chat": {"model": "golden", "messages": HI, "stream": False, "options": {**GREEDY, "num_predict": 12}},
    "/api/generate": {"model": "golden", "prompt": "Hello!", "stream": False, "options": {**GREEDY, "num_predict": 12}},
    "/api/embed": {"model": "embedder", "input": ["a", "b"]},
    "/api/rerank": {"model": "reranker", "query": "a", "documents": ["b", "c"]},
    "/v1/chat/completions": {"model": "golden", "messages": HI, **GREEDY, "max_tokens": 12},
    "/v1/completions": {"model": "golden", "prompt": "Hello!", **GREEDY, "max_tokens": 12},
    "/v1/embeddings": {"model": "embedder", "input": "a"},
    "/v1/responses": {"model": "golden", "input": "Hello!", "temperature": 0, "max_output_tokens": 12},
    "/v1/messages": {"model": "golden", "messages": HI, "temperature": 0, "max_tokens": 12},
    "/v1/rerank": {"model": "reranker", "query": "a", "documents": ["b", "c"]},
    "/chat": {"model": "golden", "message": "Hello!", "temperature": 0, "max_tokens": 12},
    "/tokenize": {"model": "golden", "content": "Hello!"},
}
# What differs from one answer to the next, wherever it stands.
PASSING = frozenset({
    "id", "created", "created_at", "completed_at", "prompt_eval_cached_count", "cached_tokens", "prompt_tokens_details",
    "input_tokens", "input_tokens_details", "cache_read_input_tokens", "timings", "load_duration", "total_duration",
    "prompt_eval_duration", "eval_duration", "response_time", "duration", "processing_time",
})  # fmt: skip


class _Nothing(BaseHTTPRequestHandler):
    """A registry that has nothing."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


@contextmanager
def nothing() -> Iterator[str]:
    """The address of a registry that has nothing: whatever would leave this machine goes there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Nothing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def arena(
    directory: Path, *flags: str, log_level: str = "info", program: Sequence[str] = ("localmodels",)
) -> Iterator[Served]:
    """A server of its own, in a home of its own, which may have been one before; its log is ``directory/log``."""
    files = [directory / f"{name}.gguf" for name in MODELS]
    for file in files:
        if not file.exists():
            write_random_model(file, **MODELS[file.stem])
    named = [word for file in files for word in ("--model", f"{file.stem}={file}")]
    home = directory / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "localmodels.toml").write_text(SERVERS)
    with nothing() as url:
        inside = ("--mirror", f"registry.ollama.ai={url}", "--hf-endpoint", url)
        every = (*named, "--default-model", "brief", "--log-format", "json", "--log-level", log_level, *inside, *flags)
        with serve(*every, home=home, log=directory / "log", program=program) as served:
            yield served


def golden(served: Served, key: str = "") -> dict[str, Any]:
    """What it answers in each dialect, without what differs from one time to the next."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answers = {}
    for path, question in QUESTIONS.items():
        answer = httpx2.post(served.url + path, json=question, headers=headers, timeout=PATIENCE)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        answers[path] = lasting(answer.json())
    return answers


def lasting(value: Any) -> Any:
    """The value without what passes; numbers as near as the engine's own batches let them be."""
    if isinstance(value, dict):
        return {name: lasting(inner) for name, inner in value.items() if name not in PASSING}
    if isinstance(value, list):
        return [lasting(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def described(served: Served, key: str = "") -> dict[str, Any]:
    """Its description of itself."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    document: dict[str, Any] = json.loads(served.get("/openapi.json", headers=headers).text)
    return document
