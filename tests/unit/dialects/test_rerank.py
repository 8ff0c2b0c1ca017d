"""Reranking: every form of a question, every form of an answer, and what is wrong in them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects import strategies as some

from localmodels.core.chat import Timings
from localmodels.core.errors import (
    BackendError,
    Garbled,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    Unsupported,
)
from localmodels.core.options import Options
from localmodels.core.rerank import Ranked, Ranking, RerankRequest, ranked
from localmodels.dialects import rerank
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.rerank import Question

STAMP = Stamp("rerank-1", "m", 0)
RANKING = Ranking((Ranked(1, 0.75), Ranked(0, 0.25)), 12, Timings(9, 2))
QUESTION = Question(RerankRequest("m", "q", ("a", "b")))


def read(**fields: Any) -> Question:
    return rerank.read(msgspec.json.encode(fields))


def test_jinas_form() -> None:
    asked = read(model="m", query="q", documents=["a", {"text": "b"}], top_n=1, return_documents=True)
    assert asked == Question(RerankRequest("m", "q", ("a", "b"), top_n=1), shown=True)


def test_coheres_form() -> None:
    objects = [{"title": "T", "text": "x"}, {"text": "y", "other": 3}, "z"]
    asked = read(query="q", documents=objects, rank_fields=["title", "text"], max_tokens_per_doc=9)
    assert asked.request == RerankRequest("", "q", ("title: T\ntext: x", "text: y", "z"), most_tokens=9)


def test_the_form_of_text_embeddings_inference() -> None:
    asked = read(query="q", texts=["a"], raw_scores=True, return_text=True, return_documents=False)
    assert asked == Question(RerankRequest("", "q", ("a",), raw=True, truncate=False), bare=True, shown=True)
    assert read(query="q", texts=["a"], truncate=True).request.truncate


def test_ours() -> None:
    asked = read(query="q", documents=["a"], options={"num_ctx": 512}, keep_alive="5m", truncate=False)
    assert asked.request == RerankRequest(
        "", "q", ("a",), truncate=False, options=Options(num_ctx=512), keep_alive=300.0
    )


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"documents": None}, "documents", InvalidRequest),
        ({"documents": []}, "documents", InvalidRequest),
        ({"documents": None, "texts": []}, "texts", InvalidRequest),
        ({"texts": ["a"]}, "texts", InvalidRequest),
        ({"query": ""}, "query", InvalidRequest),
        ({"query": ["q"]}, "query", InvalidValue),
        ({"query": "x" * (2**20 + 1)}, "query", InvalidValue),
        ({"documents": ["a", 3]}, "documents[1]", InvalidValue),
        ({"documents": [{"image": "x"}]}, "documents[0]", Unsupported),
        ({"documents": ["é" * 2**20]}, "documents[0]", InvalidValue),
        ({"documents": ["a"] * 1001}, "documents", InvalidValue),
        ({"top_n": 0}, "top_n", InvalidValue),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc", InvalidValue),
        ({"options": {"num_ctx": "many"}}, "options.num_ctx", InvalidValue),
    ],
)
def test_what_a_question_may_not_hold(fields: dict[str, Any], param: str, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind) as caught:
        read(**{"query": "q", "documents": ["a"], **fields})
    assert (type(caught.value), caught.value.param) == (kind, param)


requests = st.builds(
    RerankRequest,
    some.texts,
    some.words,
    st.lists(some.texts, min_size=1, max_size=3).map(tuple),
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    some.options,
    some.keep_alives,
)


@given(st.builds(Question, requests, st.booleans(), st.booleans()))
def test_questions_read_back(asked: Question) -> None:
    assert rerank.read(rerank.write(asked)) == asked


def test_the_union_byte_for_byte() -> None:
    assert rerank.write_answer(STAMP, QUESTION, RANKING) == (
        b'{"id":"rerank-1","model":"m","results":[{"index":1,"relevance_score":0.75},{"index":0,"relevance_score":0.25}],'
        b'"usage":{"prompt_tokens":12,"total_tokens":12},"meta":{"tokens":{"input_tokens":12},'
        b'"api_version":{"version":"2"},"billed_units":{"search_units":1}},"object":"list"}'
    )


def test_ollamas_manner_byte_for_byte() -> None:
    shown = Question(QUESTION.request, shown=True)
    assert rerank.write_ollama_answer(STAMP, shown, RANKING) == (
        b'{"model":"m","results":[{"index":1,"relevance_score":0.75,"document":{"text":"b"}},'
        b'{"index":0,"relevance_score":0.25,"document":{"text":"a"}}],'
        b'"total_duration":9,"load_duration":2,"prompt_eval_count":12}'
    )


def test_a_bare_list_byte_for_byte() -> None:
    bare = Question(QUESTION.request, bare=True)
    assert rerank.write_answer(STAMP, bare, RANKING) == b'[{"index":1,"score":0.75},{"index":0,"score":0.25}]'
    shown = Question(QUESTION.request, bare=True, shown=True)
    assert b'{"index":1,"score":0.75,"text":"b"}' in rerank.write_answer(STAMP, shown, RANKING)


scores = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2)


@given(scores, st.booleans(), st.booleans(), some.counts)
def test_answers_read_back(values: list[float], bare: bool, shown: bool, count: int) -> None:
    results = ranked(tuple(Ranked(index, score) for index, score in enumerate(values)), None)
    question, ranking = Question(QUESTION.request, bare=bare, shown=shown), Ranking(results, count)
    expected = Ranking(results, 0 if bare else count)
    assert rerank.read_answer(rerank.write_answer(STAMP, question, ranking)) == expected
    timed = Ranking(results, count, Timings(9, 2))
    assert rerank.read_answer(rerank.write_ollama_answer(STAMP, question, timed)) == timed


def test_llama_servers_answer_in_whichever_order() -> None:
    body = b"""{"model": "x", "object": "list", "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "results": [{"index": 0, "relevance_score": -1.5}, {"index": 2, "relevance_score": 3.0}]}"""
    assert rerank.read_answer(body) == Ranking((Ranked(2, 3.0), Ranked(0, -1.5)), 7)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"results": [{"index": 0}]}', b'[{"index": 0}]', b"3"])
def test_what_is_no_ranking_is_garbled(body: bytes) -> None:
    with pytest.raises(Garbled):
        rerank.read_answer(body)


def test_an_error_in_an_answer_is_one() -> None:
    with pytest.raises(BackendError, match="it broke"):
        rerank.read_answer(b'{"error": {"message": "it broke"}}')


def test_of_equal_ones_the_earlier_comes_first() -> None:
    equal = (Ranked(2, 0.5), Ranked(0, 0.5), Ranked(1, 0.9))
    assert [one.index for one in ranked(equal, None)] == [1, 0, 2]
    assert [one.index for one in ranked(equal, 2)] == [1, 0]
