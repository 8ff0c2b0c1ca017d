"""The gateway's own API, asked as its documentation does: the same bodies, the same program, the same names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.acceptance.serving import PATIENCE, Served, serve

NAMES = ("gpt-oss:20b", "qwen3:30b", "devstral", "gemma3")


@pytest.fixture(scope="module")
def gateway(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with models of the documentation's names."""
    flags = [word for name in NAMES for word in ("--model", f"{name}={models['tiny']}")]
    flags += ["--model", f"endless={models['endless']}"]
    with serve(*flags, "--default-model", "gpt-oss:20b", home=tmp_path_factory.mktemp("home")) as server:
        yield server


def streamed(response: httpx2.Response) -> list[Any]:
    """The objects of a stream, which has to end with ``[DONE]``."""
    *frames, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def test_the_root_names_every_endpoint(gateway: Served) -> None:
    told = gateway.get("/").json()
    assert told["default_model"] == "gpt-oss:20b"
    assert told["available_models"]["qwen3:30b"]["litellm_name"] == "ollama/qwen3:30b"
    wanted = {
        "chat": "/chat",
        "chat_with_model": "/chat/{model_name}",
        "chat_litellm": "/v1/chat/completions",
        "embeddings": "/v1/embeddings",
        "health": "/health",
        "models": "/models",
    }
    assert wanted.items() <= told["endpoints"].items()


def test_health(gateway: Served) -> None:
    told = gateway.get("/health").json()
    assert (told["status"], told["ollama_service"], told["litellm_enabled"]) == ("healthy", "up", True)
    assert set(NAMES) <= {name.removesuffix(":latest") for name in told["available_models"]}


def test_models(gateway: Served) -> None:
    listed = {model["name"]: model for model in gateway.get("/models").json()["models"]}
    one = listed["gpt-oss:20b"]
    assert one["model"] == "gpt-oss:20b"
    kind, _, digest = one["digest"].partition("-")
    assert (kind, len(digest)) == ("sha256", 64)
    assert one["size"] > 0
    assert {"parent_model", "format", "family", "families", "parameter_size", "quantization_level"} <= set(
        one["details"]
    )
    other = gateway.get("/models/").headers["content-type"]
    assert other == "application/x-ndjson", "with a slash it is another API's"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (
            {
                "message": "Explica qué es la inteligencia artificial",
                "max_tokens": 200,
                "temperature": 0.7,
                "reasoning": "high",
            },
            "gpt-oss:20b",
        ),
        (
            {"message": "¿Cómo programar en Python?", "model": "devstral", "max_tokens": 300, "temperature": 0.8},
            "devstral:latest",
        ),
    ],
)
def test_a_chat(gateway: Served, body: dict[str, Any], model: str) -> None:
    response = gateway.post("/chat", **body)
    assert response.status_code == 200
    told = response.json()
    assert isinstance(told["response"], str)
    assert told["model"] == model
    usage = told["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] <= body["max_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_streamed_chat_is_the_whole_one_in_pieces(gateway: Served) -> None:
    body = {"message": "Cuéntame sobre el machine learning", "max_tokens": 12, "options": {"seed": 1, "top_k": 1}}
    response = gateway.post("/chat", model="endless", **body, stream=True)
    assert response.headers["content-type"] == "text/event-stream"
    *pieces, last = streamed(response)
    whole = gateway.post("/chat/endless", **body).json()
    assert "".join(piece["response"] for piece in pieces) == whole["response"]
    assert len(pieces) > 4, "pieces come as they are made"
    assert {piece["model"] for piece in (*pieces, last)} == {"endless:latest"}
    assert (last["usage"], last["finish_reason"]) == (whole["usage"], "length")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-oss", "gpt-oss:20b"),
        ("qwen3", "qwen3:30b"),
        ("devstral", "devstral:latest"),
        ("gemma3", "gemma3:latest"),
        ("gpt-oss:20b", "gpt-oss:20b"),
        ("ollama/devstral", "devstral:latest"),
    ],
)
def test_a_model_of_the_address(gateway: Served, name: str, model: str) -> None:
    body = {"message": "¿Cuál es la diferencia entre Python y JavaScript?", "max_tokens": 4}
    assert gateway.post(f"/chat/{name}", **body).json()["model"] == model


def test_512_tokens_are_the_most_where_nothing_is_said(gateway: Served) -> None:
    assert gateway.post("/chat", message="Hola", model="endless").json()["usage"]["completion_tokens"] == 512


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/chat", {}, 400, "message is required"),
        ("/chat", {"message": "Hola", "model": "mistral"}, 404, "model 'mistral' not found"),
        ("/chat/mistral", {"message": "Hola"}, 404, "model 'mistral' not found"),
        ("/chat/devstral", {"message": "Hola", "model": "gemma3"}, 400, "the address names the model 'devstral'"),
        ("/chat", {"message": "Hola", "reasoning": "very"}, 422, "reasoning must be one of"),
        ("/chat", {"message": "Hola", "stream": True, "model": "mistral"}, 404, "model 'mistral' not found"),
        ("/chat/", {"message": "Hola"}, 404, "there is nothing at /chat/"),
    ],
)
def test_what_goes_wrong_is_a_detail(
    gateway: Served, path: str, body: dict[str, Any], status: int, detail: str
) -> None:
    response = gateway.post(path, **body)
    assert response.status_code == status
    assert response.json()["detail"].startswith(detail)


def test_too_little_memory_is_said_in_the_documents_sentence(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    flags = ("--model", f"devstral={models['tiny']}", "--memory-limit", "16MiB")
    with serve(*flags, home=tmp_path_factory.mktemp("home")) as server:
        response = server.post("/chat", message="Hola", model="devstral")
    assert response.status_code == 503
    detail = response.json()["detail"]
    assert detail.startswith("Model requires more system memory (")
    assert "GiB) than is available (" in detail


def test_a_whole_answer_takes_no_longer_than_it_may(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    flags = ("--model", f"endless={models['endless']}", "--chat-timeout", "1s")
    with serve(*flags, home=tmp_path_factory.mktemp("home")) as server:
        server.post("/chat", message="Hola", model="endless", max_tokens=1).raise_for_status()
        endless = {"message": "Hola", "model": "endless", "max_tokens": 4_000, "options": {"num_ctx": 4096}}
        response = server.post("/chat", **endless)
        running = server.running()["endless"]
    assert (response.status_code, response.json()["detail"]) == (
        504,
        "the answer did not end within 1 s (chat_timeout)",
    )
    assert running["busy"] == 0, "its place is free again"


def test_embeddings_need_no_model(gateway: Served) -> None:
    told = gateway.post("/v1/embeddings", input="Este es un texto de ejemplo").json()
    assert told["model"] == "gpt-oss:20b"
    assert len(told["data"][0]["embedding"]) == 64
    named = gateway.post("/v1/embeddings", input="Este es un texto de ejemplo", model="gpt-oss:20b").json()
    assert named["model"] == "gpt-oss:20b"
    assert named["data"][0]["embedding"] == pytest.approx(told["data"][0]["embedding"], abs=1e-4)


CLIENT = """
import sys

import httpx2 as requests


class LocalModelsClient:
    def __init__(self, base_url):
        self.base_url = base_url

    def chat(self, message, model="gpt-oss:20b", **kwargs):
        payload = {"message": message, "model": model, **kwargs}
        response = requests.post(f"{self.base_url}/chat", json=payload)
        if response.status_code == 200:
            return response.json()["response"]
        else:
            raise Exception(f"Error: {response.json()}")

    def get_models(self):
        response = requests.get(f"{self.base_url}/models")
        return response.json()["models"]


client = LocalModelsClient(sys.argv[1])
for model in (*(model["name"] for model in client.get_models()), "nobody"):
    try:
        print(model, "success", len(client.chat("¿Qué es un algoritmo?", model=model, max_tokens=20)))
    except Exception as error:
        print(model, "error", error)
"""


def test_the_documents_own_client(gateway: Served) -> None:
    command = [sys.executable, "-c", CLIENT, gateway.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    *lines, nobody = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["success"] * (len(NAMES) + 2)
    assert nobody == "nobody error Error: {'detail': \"model 'nobody' not found\"}"
