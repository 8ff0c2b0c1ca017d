"""Real servers of the kind ``llamacpp``: llama.cpp's own, found, shown, asked in every dialect, and lost.

The judge of an answer is the same server asked without us: what it says at temperature 0 is what comes through.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.acceptance.bare_llama import bare_llama
from tests.acceptance.serving import PATIENCE, Served, eventually, serve
from tests.acceptance.test_fleet_api import PROMPT, QUIET, Fleet
from tests.awaited import awaited

from localmodels.backends.fake import FakeServer

# Where each dialect tells how long the prompt was; what was not read anew is told apart in one of them.
COUNTS = {
    "/v1/chat/completions": ("prompt_tokens",),
    "/api/chat": ("prompt_eval_count",),
    "/v1/messages": ("input_tokens", "cache_read_input_tokens"),
    "/v1/responses": ("input_tokens",),
    "/chat": ("prompt_tokens",),
}
SETTLED = {"temperature": 0, "seed": 1, "max_tokens": 8}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(*QUIET, home=tmp_path_factory.mktemp("front")) as served:
        yield served


@pytest.fixture
def fleet(front: Served) -> Iterator[Fleet]:
    fleet = Fleet(front)
    yield fleet
    fleet.clear()


@pytest.fixture(scope="module")
def llama(models: dict[str, Path]) -> Iterator[str]:
    with bare_llama(models["tiny"], alias="small") as (url, _):
        yield url


def told(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx2.post(url + path, json=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_it_has_is_found_and_shown(fleet: Fleet, llama: str) -> None:
    row = fleet.add("llama", llama, kind="llamacpp")
    assert (fleet.row("llama")["state"], fleet.row("llama")["kind"]) == ("up", "llamacpp")
    assert set(fleet.models(row)) == {"small"}
    shown = next(one for one in fleet.good("GET", "/v1/models")["data"] if one["servers"] == ["llama"])
    meta = httpx2.get(f"{llama}/v1/models").json()["data"][0]["meta"]
    assert (shown["id"], shown["context_length"]) == ("small", meta["n_ctx"])
    assert "completion" in shown["capabilities"]
    assert "llama" in {one["server"] for one in fleet.good("GET", "/api/ps")["models"]}, "it has one model, in memory"


def test_it_can_be_asked_by_its_name_what_it_has(fleet: Fleet, llama: str) -> None:
    """Its models are not managed from here; to look is not to manage."""
    fleet.add("llama", llama, kind="llamacpp")
    for server in ("llama", "*"):
        rows = fleet.good("GET", f"/api/ps?server={server}")["models"]
        assert ("small", "llama") in {(one["name"], one["server"]) for one in rows}
    shown = fleet.good("POST", "/api/show", {"model": "small", "server": "llama"})
    assert (shown["name"], "completion" in shown["capabilities"]) == ("small", True)
    refused = fleet.ask("DELETE", "/api/delete", {"model": "small", "server": "llama"})
    assert (refused.status_code, "models are managed on those of the kind ollama alone" in refused.text) == (400, True)


@awaited
async def test_who_does_not_tell_says_so_and_spoils_no_list(fleet: Fleet, llama: str) -> None:
    async with FakeServer(names=("m:1",)) as cloud:
        await asyncio.to_thread(fleet.add, "cloud", cloud.url, kind="openai")
        told = await asyncio.to_thread(fleet.good, "GET", "/api/ps?server=cloud")
        (failure,) = told["failures"]
        assert (told["models"], failure["server"], "does not tell what is in its memory" in failure["failure"]) == (
            [],
            "cloud",
            True,
        )
        assert "failures" not in await asyncio.to_thread(fleet.good, "GET", "/api/ps?server=*")


@pytest.mark.parametrize("path", COUNTS)
def test_it_says_what_it_says_without_us(fleet: Fleet, llama: str, path: str) -> None:
    fleet.add("llama", llama, kind="llamacpp")
    bare = told(llama, "/v1/chat/completions", {"model": "small", "messages": PROMPT, **SETTLED})
    text, count = bare["choices"][0]["message"]["content"], bare["usage"]["prompt_tokens"]
    body: dict[str, Any] = {"model": "small", "messages": PROMPT, "stream": False, **SETTLED}
    if path == "/api/chat":
        body["options"] = {"temperature": 0, "seed": 1, "num_predict": 8}
    if path == "/v1/responses":
        body = {"model": "small", "input": PROMPT, "temperature": 0, "max_output_tokens": 8, "store": False}
    if path == "/chat":
        body["message"] = body.pop("messages")[0]["content"]
    answer = fleet.ask("POST", path, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-localmodels-server"] == "llama"
    assert json.dumps(text)[1:-1] in answer.text
    said = answer.json()
    assert sum(said.get("usage", said)[name] for name in COUNTS[path]) == count


def test_a_stream_in_its_own_dialect_comes_as_it_is(fleet: Fleet, llama: str) -> None:
    fleet.add("llama", llama, kind="llamacpp")
    body = {"model": "small", "messages": PROMPT, "stream": True, "stream_options": {"include_usage": True}, **SETTLED}
    heard = [httpx2.post(f"{url}/v1/chat/completions", json=body).text for url in (llama, fleet.served.url)]
    bare, ours = ([json.loads(line[6:]) for line in text.splitlines() if line[:7] == "data: {"] for text in heard)
    own = ("id", "created", "timings")
    assert [{k: v for k, v in one.items() if k not in own} for one in bare] == [
        {k: v for k, v in one.items() if k not in own} for one in ours
    ]
    assert ours[-1]["usage"]["completion_tokens"] == 8
    assert heard[1].rstrip().endswith("data: [DONE]")


def test_it_embeds_and_ranks(fleet: Fleet, models: dict[str, Path]) -> None:
    documents = ["cats are animals", "a stone", "dogs and cats"]
    with (
        bare_llama(models["embedder"], "embed", "vectors") as (embeds, _),
        bare_llama(models["reranker"], "rerank", "order") as (ranks, _),
    ):
        fleet.add("embeds", embeds, kind="llamacpp")
        fleet.add("ranks", ranks, kind="llamacpp")
        body = {"model": "vectors", "input": documents}
        bare = [one["embedding"] for one in told(embeds, "/v1/embeddings", body)["data"]]
        assert [one["embedding"] for one in fleet.good("POST", "/v1/embeddings", body)["data"]] == bare
        for ours, theirs in zip(fleet.good("POST", "/api/embed", body)["embeddings"], bare, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6)
        asked = {"model": "order", "query": "animals", "documents": documents}
        order = [one["index"] for one in told(ranks, "/v1/rerank", asked)["results"]]
        scores = {one["index"]: one["relevance_score"] for one in told(ranks, "/v1/rerank", asked)["results"]}
        results = fleet.good("POST", "/v1/rerank", asked)["results"]
        assert [one["index"] for one in results] == sorted(order, key=lambda index: -scores[index])


def test_when_it_is_killed_the_other_answers(fleet: Fleet, models: dict[str, Path], llama: str) -> None:
    fleet.add("other", llama, kind="llamacpp")
    with bare_llama(models["tiny"], alias="small") as (url, process):
        fleet.add("first", url, kind="llamacpp", priority=5)
        body = {"model": "small", "messages": PROMPT, **SETTLED}
        assert fleet.ask("POST", "/v1/chat/completions", body).headers["x-localmodels-server"] == "first"
        stop(process)
        for _ in range(10):
            answer = fleet.ask("POST", "/v1/chat/completions", body)
            assert (answer.status_code, answer.headers["x-localmodels-server"]) == (200, "other")
        eventually(lambda: fleet.row("first")["state"] == "down", "it is down")


def stop(process: psutil.Process) -> None:
    process.kill()
    process.wait(PATIENCE)


def test_a_prompt_that_is_too_long_is_told_in_the_words_of_who_asked(fleet: Fleet, llama: str) -> None:
    fleet.add("llama", llama, kind="llamacpp")
    long = [{"role": "user", "content": "word " * 2000}]
    answer = fleet.ask("POST", "/v1/chat/completions", {"model": "small", "messages": long})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    answer = fleet.ask("POST", "/v1/messages", {"model": "small", "messages": long, "max_tokens": 8})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert fleet.row("llama")["state"] == "up", "the fault is the caller's"
