"""Reranking over HTTP, in every form that clients know, by a model that was never trained but tells texts apart."""

from __future__ import annotations

from typing import Any

import pytest
from tests.acceptance.serving import Served

DOCUMENTS = ["hi", "it is a bear", "The giant panda is a bear species endemic to China."]
ASKED: dict[str, Any] = {"query": "What is a panda?", "documents": DOCUMENTS}


def order(results: list[dict[str, Any]]) -> list[int]:
    return [one["index"] for one in results]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/api/rerank", "/ollama/api/rerank"])
def test_every_address(served: Served, path: str) -> None:
    told = served.post(path, model="reranker", **ASKED, return_documents=True).json()
    scores = [one["relevance_score"] for one in told["results"]]
    assert told["model"] == "reranker"
    assert sorted(order(told["results"])) == [0, 1, 2]
    assert scores == sorted(scores, reverse=True)
    assert 1 >= scores[0] > scores[-1] >= 0
    assert [one["document"]["text"] for one in told["results"]] == [DOCUMENTS[i] for i in order(told["results"])]
    count = told["prompt_eval_count"] if "api" in path else told["usage"]["prompt_tokens"]
    assert count > 60


def test_the_union_of_jinas_coheres_and_vllms_answers(served: Served) -> None:
    told = served.post("/v1/rerank", model="reranker", **ASKED, top_n=1).json()
    (best,) = told["results"]
    assert set(best) == {"index", "relevance_score"}
    assert told["id"].startswith("rerank-")
    assert told["object"] == "list"
    tokens = told["usage"]["total_tokens"]
    assert told["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": tokens},
    }


def test_texts_get_a_bare_list(served: Served) -> None:
    told = served.post("/rerank", query=ASKED["query"], texts=DOCUMENTS, return_text=True).json()
    usual = served.post("/v1/rerank", model="reranker", **ASKED).json()["results"]
    assert order(told) == order(usual)
    assert [one["score"] for one in told] == pytest.approx([one["relevance_score"] for one in usual], abs=1e-3)
    assert [one["text"] for one in told] == [DOCUMENTS[i] for i in order(told)]


def test_documents_may_be_objects(served: Served) -> None:
    objects = [{"text": text, "title": "x"} for text in DOCUMENTS]
    told = served.post("/v1/rerank", model="reranker", query=ASKED["query"], documents=objects).json()
    usual = served.post("/v1/rerank", model="reranker", **ASKED).json()
    assert order(told["results"]) == order(usual["results"])


def test_without_a_name_the_reranker_answers_and_not_the_default_model(served: Served) -> None:
    assert served.post("/v1/rerank", **ASKED).json()["model"] == "reranker:latest"


def test_a_reranker_is_listed_as_one_and_is_nothing_else(served: Served) -> None:
    shown = served.post("/api/show", model="reranker").json()
    assert shown["capabilities"] == ["rerank"]
    asked: dict[str, dict[str, Any]] = {
        "/v1/embeddings": {"input": "x"},
        "/api/embed": {"input": "x"},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
        "/api/generate": {"prompt": "x"},
    }
    for path, body in asked.items():
        response = served.post(path, model="reranker", **body)
        assert response.status_code == 400, path
        assert "reranker:latest does not" in response.text


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"documents": ["a"]}, 400, "query is required"),
        ({"query": "q"}, 400, "documents is required"),
        ({"query": "q", "documents": []}, 400, "documents is required"),
        ({"query": "q", "documents": [1]}, 422, "documents[0] must be a text or an object with a text"),
        ({"query": "q", "documents": ["a"], "texts": ["a"]}, 400, "send one of them"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, 422, "top_n"),
        ({"query": "q", "documents": ["a"] * 1001}, 422, "at most 1,000"),
        ({"query": "q", "documents": ["a"], "model": "nobody"}, 404, "model 'nobody' not found"),
        ({"query": "q", "documents": ["a"], "model": "tiny"}, 400, "tiny:latest does not rerank"),
    ],
)
def test_what_goes_wrong(served: Served, body: dict[str, Any], status: int, words: str) -> None:
    for path in ("/v1/rerank", "/rerank"):
        response = served.post(path, **body)
        assert response.status_code == status
        told = response.json()
        assert words in (told["error"]["message"] if path == "/v1/rerank" else told["detail"])
