"""What a program without an SDK meets: probes, wrong paths and methods, broken bodies, strange hosts, two names."""

from __future__ import annotations

import socket
from typing import Any

import httpx2
import pytest
from tests.acceptance.serving import PATIENCE, Served

HELLO = [{"role": "user", "content": "Hello!"}]
CHAT = {"model": "tiny", "messages": HELLO, "stream": False, "options": {"num_predict": 4}}


def message(body: Any) -> str:
    """The words of an error, in whichever dialect."""
    if "detail" in body:
        return str(body["detail"])
    error = body["error"]
    return str(error["message"] if isinstance(error, dict) else error)


def test_clients_of_ollama_find_what_they_probe(served: Served) -> None:
    head = httpx2.head(f"{served.url}/", timeout=PATIENCE)
    assert (head.status_code, head.content) == (200, b"")
    got = served.get("/", headers={"accept": "text/plain"})
    assert (got.status_code, got.text) == (200, "Ollama is running")
    assert httpx2.head(f"{served.url}/api/version", timeout=PATIENCE).status_code == 200
    assert served.get("/", headers={"accept": "application/json"}).json()


# Its dialect shows in the keys of an error.
@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/api/nothing", {"error"}),
        ("/ollama/api/nothing", {"error"}),
        ("/v1/nothing", {"error"}),
        ("/nothing", {"detail"}),
        ("/api/chat/", {"error"}),
    ],
)
def test_an_unknown_path_is_not_found_in_its_dialect(served: Served, path: str, keys: set[str]) -> None:
    response = served.get(path)
    assert response.status_code == 404
    assert response.json().keys() == keys
    assert isinstance(response.json().get("error", {}), dict) == (not path.startswith(("/api", "/ollama")))


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/chat"), ("DELETE", "/v1/models"), ("POST", "/health")])
def test_a_wrong_method_is_told_the_right_one(served: Served, method: str, path: str) -> None:
    response = httpx2.request(method, served.url + path, timeout=PATIENCE)
    assert response.status_code == 405
    assert any(word in message(response.json()) for word in ("GET is", "HEAD is", "POST is"))


@pytest.mark.parametrize("body", [b"", b"{", b"[]]", b"\xff\xfe", b'{"model": "tiny"', b"nonsense", b"[]", b"3"])
@pytest.mark.parametrize(
    "path", ["/api/chat", "/api/generate", "/api/embed", "/v1/chat/completions", "/v1/embeddings", "/tokenize"]
)
def test_what_is_no_json_object_is_a_bad_request(served: Served, path: str, body: bytes) -> None:
    response = httpx2.post(served.url + path, content=body, timeout=PATIENCE)
    assert response.status_code == 400
    assert message(response.json())


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("body", [b'{"model": 3}', b'{"model": "tiny", "messages": "Hello!"}'])
def test_a_field_of_another_type_cannot_be_processed(served: Served, path: str, body: bytes) -> None:
    response = httpx2.post(served.url + path, content=body, timeout=PATIENCE)
    assert response.status_code == 422


def test_everything_of_ollama_is_also_under_its_prefix(served: Served) -> None:
    assert served.get("/ollama/api/tags").json() == served.get("/api/tags").json()
    assert served.post("/ollama/api/chat", **CHAT).json()["done"] is True


def test_llama_is_the_default_model(served: Served) -> None:
    assert served.post("/api/chat", **{**CHAT, "model": "llama"}).json()["done"] is True
    shown = served.get("/api/show", params={"name": "llama"}).json()
    assert shown["digest"] == served.post("/api/show", model="tiny").json()["digest"]


@pytest.mark.parametrize("name", ["tiny", "tiny:latest", "ollama/tiny", "ollama_chat/tiny", "openai/tiny"])
def test_a_model_answers_to_each_of_its_names(served: Served, name: str) -> None:
    assert served.post("/api/chat", **{**CHAT, "model": name}).status_code == 200


def test_a_body_without_a_content_type_is_read(served: Served) -> None:
    response = httpx2.post(f"{served.url}/api/show", content=b'{"model": "tiny"}', timeout=PATIENCE)
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/tags", "/v1/models"])
def test_a_strange_host_is_refused(served: Served, path: str) -> None:
    response = served.get(path, headers={"host": "evil.example"})
    assert response.status_code == 421
    assert "--allowed-host" in message(response.json())


def test_a_strange_page_is_refused(served: Served) -> None:
    headers = {"origin": "https://evil.example"}
    response = httpx2.post(f"{served.url}/api/chat", json=CHAT, headers=headers, timeout=PATIENCE)
    assert response.status_code == 403


def test_tokens_go_there_and_back(served: Served) -> None:
    tokens = served.post("/tokenize", model="tiny", content="Hello, world").json()["tokens"]
    assert served.post("/detokenize", model="tiny", tokens=tokens).json() == {"content": "Hello, world"}


def test_the_health_names_the_default_model(served: Served) -> None:
    health = served.get("/health").json()
    assert (health["status"], health["model_ready"]) == ("healthy", True)
    assert health["default_model"] == "tiny:latest"


def endlessly(connection: socket.socket) -> None:
    """Sends 100 MB."""
    for _ in range(10_000):
        connection.sendall(b"a" * 10_000)


def test_a_head_without_an_end_is_cut_off(served: Served) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        # It is closed while we still send; whether its last words arrive first is the network's business.
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            endlessly(connection)
    assert served.get("/api/version").status_code == 200


def test_a_head_of_usual_size_and_many_requests_on_one_connection(served: Served) -> None:
    with httpx2.Client(base_url=served.url, headers={"X-Long": "a" * 30_000}) as client:
        for _ in range(5):
            assert client.post("/api/generate", json={**CHAT, "messages": [], "prompt": "x" * 90_000}).status_code < 500
            assert client.get("/api/version").status_code == 200
