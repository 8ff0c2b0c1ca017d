"""Documents that fit beside their question, counted only where they must be, and numbers between 0 and 1."""

from __future__ import annotations

import asyncio
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from localmodels.artifacts.gguf_header import Header
from localmodels.core.errors import ContextLengthExceeded
from localmodels.core.rerank import Ranked, Ranking, RerankRequest
from localmodels.engine.command import RunnerConfig
from localmodels.engine.scores import MARKS, TEMPLATE, fitted, logistic, ranking

CONFIG = RunnerConfig(model="", socket="", slot_dir="", context=40 + MARKS, parallel=1, ubatch=20 + MARKS)
QUESTION = RerankRequest("m", "q" * 10, ("a" * 5,))


class Letters:
    """A tokenizer of which every two letters are a token."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        self.asked.append(text)
        assert not special
        return tuple(ord(letter) for letter in text[::2])

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        return "".join(chr(token) * 2 for token in tokens)


def header(architecture: str = "qwen3", template: str = "") -> Header:
    metadata = {"general.architecture": architecture} | ({TEMPLATE: template} if template else {})
    return Header("x.gguf", 3, metadata, (), 32, 0, 0)


def fit(request: RerankRequest, kind: Header | None = None) -> tuple[RerankRequest, list[str]]:
    letters = Letters()
    return asyncio.run(fitted(request, kind or header(), CONFIG, letters)), letters.asked


def test_what_is_surely_short_enough_is_not_counted() -> None:
    assert fit(QUESTION) == (QUESTION, [])


def test_what_is_too_long_is_cut_to_the_room_that_the_question_leaves() -> None:
    request, asked = fit(replace(QUESTION, documents=("a" * 200, "b" * 60, "c" * 80)))
    assert request.documents == ("a" * 70, "b" * 60, "c" * 70)
    assert asked[0] == QUESTION.query
    assert len(asked) == 4, "each text is counted once"


def test_an_encoder_reads_all_of_a_text_at_once() -> None:
    request, _ = fit(replace(QUESTION, documents=("a" * 200,)), header("bert"))
    assert request.documents == ("a" * 30,)


def test_a_template_takes_room_as_well() -> None:
    request, _ = fit(replace(QUESTION, documents=("a" * 200,)), header(template="x" * 20 + "{query}{document}"))
    assert request.documents == ("a" * 50,)


def test_a_document_has_no_more_tokens_than_are_wanted() -> None:
    request, _ = fit(replace(QUESTION, documents=("a" * 9, "b" * 4), most_tokens=3))
    assert request.documents == ("a" * 6, "b" * 4)


def test_a_character_that_was_cut_leaves_nothing() -> None:
    request, _ = fit(replace(QUESTION, documents=("a" * 60 + "\ufffd" * 40,)))
    assert request.documents == ("a" * 60,)


def test_what_may_not_be_cut_is_refused_with_both_counts() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        fit(replace(QUESTION, documents=("a" * 200,), truncate=False))
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (105, 40)
    assert fit(replace(QUESTION, documents=("a" * 70,), truncate=False))[0].documents == ("a" * 70,)


def test_a_question_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ContextLengthExceeded):
        fit(replace(QUESTION, query="q" * 80))


def test_a_question_cannot_stand_in_for_the_document() -> None:
    """llama.cpp replaces one after the other: a large document would stand in the question as often as that says so."""
    request, _ = fit(replace(QUESTION, query="{document}"), header(template="{query}{document}"))
    assert "{document}" not in request.query
    assert fit(replace(QUESTION, query="{document}"))[0].query == "{document}"


ANSWERED = Ranking((Ranked(0, -3.0), Ranked(1, 900.0), Ranked(2, 800.0)), 7)


def test_logits_become_probabilities_and_keep_their_order() -> None:
    made = ranking(QUESTION, header("bert"), ANSWERED)
    assert [one.index for one in made.results] == [1, 2, 0], "though two of them are 1"
    assert [one.score for one in made.results] == pytest.approx([1.0, 1.0, 0.0474], abs=1e-4)
    assert made.prompt_tokens == 7


def test_probabilities_and_raw_scores_stay_as_they_are() -> None:
    own = (Ranked(1, 900.0), Ranked(2, 800.0), Ranked(0, -3.0))
    assert ranking(QUESTION, header("qwen3"), ANSWERED).results == own
    assert ranking(replace(QUESTION, raw=True, top_n=2), header("bert"), ANSWERED).results == own[:2]


@given(st.floats(allow_nan=False))
def test_a_probability_lies_between_0_and_1(logit: float) -> None:
    assert 0 <= logistic(logit) <= 1
    assert logistic(logit) <= logistic(nextafter(logit, inf))
    assert logistic(0) == 0.5
