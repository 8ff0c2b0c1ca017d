"""Our server in front of another one of ours, which plays an Ollama, an OpenAI and an Anthropic server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import ollama
import openai
import pytest
from tests.acceptance.serving import PATIENCE, Served, environment, eventually, serve

KEY = "sk-sesame-front-to-back"
KINDS = ("ollama", "openai", "anthropic")
PROMPT = [{"role": "user", "content": "Hello!"}]
GREEDY = {"temperature": 0, "seed": 1}


@pytest.fixture(scope="module")
def behind(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The other server."""
    flags = [word for name in ("tiny", "endless", "embedder") for word in ("--model", f"{name}={models[name]}")]
    with serve(*flags, home=tmp_path_factory.mktemp("behind")) as server:
        yield server


@pytest.fixture(scope="module")
def breaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server whose every stream ends in the middle."""
    script = tmp_path_factory.mktemp("fake") / "script.json"
    script.write_text(json.dumps({"wire": {"at": 700, "then": "fin"}, "chunks": [{"text": "word "}] * 50}))
    command = [sys.executable, "-m", "localmodels.backends.fake", "--script", str(script)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
        process.kill()


@pytest.fixture(scope="module")
def front(
    behind: Served, breaking: str, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Ours, which knows it by three names and in three dialects."""
    home = tmp_path_factory.mktemp("front")
    (home / "key").write_text(KEY)
    (home / "key").chmod(0o600)
    tables = "".join(
        f'[[servers]]\nname = "far-{kind}"\nurl = "{behind.url}"\nkind = "{kind}"\nkey_file = "key"\n' for kind in KINDS
    )
    dead = '[[servers]]\nname = "dead"\nurl = "http://127.0.0.1:9"\nkind = "openai"\nmodels = ["bare"]\n'
    cut = "".join(f'[[servers]]\nname = "cut-{kind}"\nurl = "{breaking}"\nkind = "{kind}"\n' for kind in KINDS)
    alias = '[alias]\nfriend = "far-openai/tiny"\n'
    (home / "localmodels.toml").write_text(alias + tables + dead + cut)
    with serve("--model", f"tiny={models['tiny']}", "--default-model", "tiny", home=home) as server:
        yield server


def whole(url: str, asking: str, model: str) -> str:
    """What the model says, in whichever dialect it is asked."""
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "ollama": ("/api/chat", {"stream": False, "options": {**GREEDY, "num_predict": 12}}),
        "openai": ("/v1/chat/completions", {**GREEDY, "max_tokens": 12}),
        "anthropic": ("/v1/messages", {"temperature": 0, "max_tokens": 12}),
        "responses": ("/v1/responses", {"temperature": 0, "max_output_tokens": 12, "store": False}),
        "plain": ("/chat", {"temperature": 0, "max_tokens": 12}),
    }
    path, fields = bodies[asking]
    question: dict[str, Any] = {"plain": {"message": "Hello!"}, "responses": {"input": "Hello!"}}.get(
        asking, {"messages": PROMPT}
    )
    answer = httpx2.post(url + path, json={"model": model, **question, **fields}, timeout=PATIENCE)
    answer.raise_for_status()
    said = answer.json()
    if asking == "anthropic":
        return "".join(block["text"] for block in said["content"])
    if asking == "responses":
        return "".join(part["text"] for item in said["output"] for part in item.get("content", ()))
    if asking == "plain":
        return str(said["response"])
    return str((said.get("message") or said["choices"][0]["message"])["content"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asking", ["ollama", "openai", "anthropic", "responses", "plain"])
def test_every_dialect_reaches_every_kind(front: Served, behind: Served, asking: str, kind: str) -> None:
    assert whole(front.url, asking, f"far-{kind}/localmodels") == whole(behind.url, asking, "localmodels")


@pytest.fixture(scope="module")
def ollamas(front: Served, behind: Served) -> Iterator[tuple[ollama.Client, ollama.Client]]:
    """Ollama's SDK, at the server behind and at ours."""
    with ollama.Client(behind.url) as near, ollama.Client(front.url) as far:
        yield near, far


@pytest.fixture(scope="module")
def openais(front: Served, behind: Served) -> Iterator[tuple[openai.OpenAI, openai.OpenAI]]:
    """OpenAI's SDK, likewise."""
    with (
        openai.OpenAI(base_url=f"{behind.url}/v1", api_key="x") as near,
        openai.OpenAI(base_url=f"{front.url}/v1", api_key="x", max_retries=0) as far,
    ):
        yield near, far


def test_ollamas_sdk(ollamas: tuple[ollama.Client, ollama.Client]) -> None:
    near, far = ollamas
    options = {**GREEDY, "num_predict": 8}
    for kind in KINDS:
        pieces = list(far.chat(f"far-{kind}/tiny", PROMPT, stream=True, options=options))
        expected = near.chat("tiny", PROMPT, options=options)
        assert "".join(piece.message.content or "" for piece in pieces) == expected.message.content
        assert (pieces[-1].done, pieces[-1].eval_count) == (True, expected.eval_count)
    vector = near.embed("embedder", "Hello").embeddings[0]
    assert far.embed("far-ollama/embedder", "Hello").embeddings[0] == vector
    assert far.embed("far-openai/embedder", "Hello").embeddings[0] == pytest.approx(vector, rel=1e-4)
    expected_text = near.generate("tiny", "Hello", options=options).response
    assert far.generate("far-ollama/tiny", "Hello", options=options).response == expected_text


def test_openais_sdk(openais: tuple[openai.OpenAI, openai.OpenAI]) -> None:
    near, far = openais
    fields: dict[str, Any] = {"messages": PROMPT, "max_tokens": 8, "temperature": 0, "seed": 1}
    expected = near.chat.completions.create(model="tiny", **fields).choices[0].message.content
    for kind in KINDS:
        stream = far.chat.completions.create(model=f"far-{kind}/tiny", stream=True, **fields)
        assert "".join(piece.choices[0].delta.content or "" for piece in stream if piece.choices) == expected
    asked: dict[str, Any] = {"model": "far-openai/tiny", "stream": True, **fields}
    counted = list(far.chat.completions.create(stream_options={"include_usage": True}, **asked))
    assert counted[-1].usage is not None
    assert counted[-1].usage.completion_tokens == 8
    assert all(piece.usage is None and piece.choices for piece in far.chat.completions.create(**asked))
    vectors = [
        client.embeddings.create(model=model, input="Hello").data[0].embedding
        for client, model in ((near, "embedder"), (far, "far-openai/embedder"))
    ]
    assert vectors[0] == vectors[1]
    assert far.chat.completions.create(model="friend", **fields).choices[0].message.content == expected


def test_anthropics_sdk(front: Served) -> None:
    asked: dict[str, Any] = {"messages": PROMPT}
    with anthropic.Anthropic(base_url=front.url, api_key="x", max_retries=0) as far:
        for kind in KINDS:
            with far.messages.stream(model=f"far-{kind}/tiny", max_tokens=8, **asked) as stream:
                message = stream.get_final_message()
            assert message.stop_reason == "max_tokens"
            assert message.usage.output_tokens == 8
        assert far.messages.count_tokens(model="far-anthropic/tiny", **asked).input_tokens > 0
        with pytest.raises(anthropic.BadRequestError, match="counted by nobody but its server"):
            far.messages.count_tokens(model="far-openai/tiny", **asked)


def test_their_models_are_listed_beside_ours(front: Served, ollamas: tuple[ollama.Client, ollama.Client]) -> None:
    names = [row["name"] for row in front.get("/api/tags").json()["models"]]
    assert names[0] == "tiny:latest"
    for kind in KINDS:
        assert f"far-{kind}/tiny:latest" in names
    assert "dead/bare" in names
    rows = {row["id"]: row for row in front.get("/v1/models").json()["data"]}
    assert rows["far-openai/tiny:latest"]["owned_by"] == "far-openai"
    assert rows["tiny:latest"]["owned_by"] == "library"
    far = ollamas[1]
    assert {model.model for model in far.list().models} >= {"tiny:latest", "far-ollama/tiny:latest"}
    assert "completion" in (far.show("far-ollama/tiny").capabilities or ())
    assert front.get("/v1/models/far-openai/tiny:latest").json()["id"] == "far-openai/tiny:latest"
    assert front.get("/v1/models/far-openai/none").status_code == 404


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asking", "path"), [("ollama", "/api/chat"), ("openai", "/v1/chat/completions")])
def test_a_model_that_the_other_server_does_not_have(front: Served, asking: str, path: str, kind: str) -> None:
    answer = front.post(path, model=f"far-{kind}/none", messages=PROMPT)
    assert answer.status_code == 404
    assert f"far-{kind}/none" in answer.text


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_a_server_that_is_not_there(front: Served, path: str) -> None:
    for model in ("dead/bare", "bare"):
        answer = front.post(path, model=model, messages=PROMPT, max_tokens=5)
        assert answer.status_code == 502
        assert "the server 'dead' cannot be reached" in answer.text
    assert front.post(path, model="dead/other", messages=PROMPT, max_tokens=5).status_code == 404


def test_health_names_the_servers_and_no_key(front: Served) -> None:
    whole(front.url, "ollama", "far-ollama/tiny")
    front.post("/api/chat", model="dead/bare", messages=PROMPT)
    states = {row["name"]: row for row in front.get("/health?verbose=1").json()["servers"]}
    assert states["far-ollama"]["status"] == "up"
    assert states["dead"]["status"] == "down"
    assert set(states) == {*(f"{name}-{kind}" for kind in KINDS for name in ("far", "cut")), "dead"}
    assert KEY not in json.dumps(states)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_a_client_that_leaves_frees_the_other_servers_place(
    front: Served, behind: Served, path: str, kind: str
) -> None:
    asked = {"model": f"far-{kind}/endless", "messages": PROMPT, "stream": True, "max_tokens": 4000}
    with httpx2.stream("POST", front.url + path, json=asked, timeout=PATIENCE) as answer:
        pieces = answer.iter_bytes()  # held: an iterator that nobody holds closes the answer
        assert next(pieces)
        assert behind.running()["endless"]["busy"] == 1
    eventually(lambda: behind.running()["endless"]["busy"] == 0, "the place is free", within=5.0)
    behind.unload("endless")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("path", "error", "success"),
    [
        ("/api/chat", b'{"error":"', b'"done":true'),
        ("/v1/chat/completions", b'data: {"error":{"message":"', b"[DONE]"),
        ("/v1/messages", b'event: error\ndata: {"type":"error"', b"message_stop"),
    ],
)
def test_a_stream_that_is_cut_ends_in_an_error_whoever_asks(
    front: Served, path: str, error: bytes, success: bytes, kind: str
) -> None:
    asked = {"model": f"cut-{kind}/m", "messages": PROMPT, "stream": True, "max_tokens": 99}
    answer = httpx2.post(front.url + path, json=asked, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    frames = answer.content.removesuffix(b"\n").split(b"\n" if path == "/api/chat" else b"\n\n")
    last = next(frame for frame in reversed(frames) if frame.strip())
    assert last.startswith(error), last
    assert b"the answer" in last or b"the connection" in last
    assert b"word " in answer.content
    assert success not in answer.content


def test_a_relayed_stream_is_what_the_other_server_sends(front: Served, behind: Served) -> None:
    asked = {"messages": PROMPT, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 8,
             "temperature": 0, "seed": 1}  # fmt: skip
    bodies = [
        httpx2.post(url + "/v1/chat/completions", json={"model": model, **asked}, timeout=PATIENCE).text
        for url, model in ((front.url, "far-openai/tiny"), (behind.url, "tiny"))
    ]
    same = [re.sub(r'"id":"[^"]*"|"created":\d+|"timings":\{[^}]*\}', "", body) for body in bodies]
    assert same[0] == same[1]
    assert bodies[0].endswith("data: [DONE]\n\n")
