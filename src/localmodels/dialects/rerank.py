"""Reranking: a question and the texts that may answer it, in every form that clients know.

One reader takes those of Jina, Cohere, vLLM, llama.cpp and text-embeddings-inference; answers have three forms. The
rule: who asks in a form is answered in it. Jina's, Cohere's and vLLM's clients read one union of all three; who sends
``texts`` gets the bare list of text-embeddings-inference.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from localmodels.core.errors import Garbled, InvalidRequest, InvalidValue, Unsupported
from localmodels.core.options import NO_OPTIONS, parse_options
from localmodels.core.rerank import Ranked, Ranking, RerankRequest, ranked
from localmodels.dialects import asked, failures, figures, strict_json
from localmodels.dialects.durations import read_keep_alive, write_keep_alive
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

MAX_DOCUMENTS = 1_000
MAX_DOCUMENT = 2**20  # bytes


class Rerank(Struct, omit_defaults=True, kw_only=True):
    """What any of them asks; ``options`` and ``keep_alive`` are ours."""

    model: str | None = None
    query: str | None = None
    documents: list[Any] | None = None
    texts: list[str] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    max_tokens_per_doc: int | None = None
    rank_fields: list[str] | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None


class Question(Struct, frozen=True):
    """A question as its asker put it.

    Attributes:
        bare: the answer is a list and nothing around it.
        shown: the answer shows the documents as well.
    """

    request: RerankRequest
    bare: bool = False
    shown: bool = False


class _Document(Struct, frozen=True):
    text: str


class _Result(Struct, frozen=True):
    index: int
    relevance_score: float
    document: _Document | UnsetType = UNSET


class BareResult(Struct, frozen=True):
    """One text's score, as TEI tells it."""

    index: int
    score: float
    text: str | UnsetType = UNSET


class _Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Version(Struct, frozen=True):
    version: str = "2"


class _Units(Struct, frozen=True):
    search_units: int = 1


class _Tokens(Struct, frozen=True):
    input_tokens: int


class _Meta(Struct, frozen=True):
    """What Cohere tells of the costs: a question is one unit, as there."""

    tokens: _Tokens
    api_version: _Version = _Version()
    billed_units: _Units = _Units()


class Answer(Struct, frozen=True):
    """What Jina's, Cohere's and vLLM's readers find theirs in."""

    id: str
    model: str
    results: tuple[_Result, ...]
    usage: _Usage
    meta: _Meta
    object: str = "list"


class OllamaAnswer(Struct, frozen=True):
    """The answer of ``/api/rerank``."""

    model: str
    results: tuple[_Result, ...]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class _Read(Struct, frozen=True):
    """An answer in any of the forms that are objects, from any server."""

    results: tuple[_Result, ...] | None = None
    usage: _Usage | None = None
    prompt_eval_count: int = 0
    total_duration: int = 0
    load_duration: int = 0
    error: Any = None


_RERANK = msgspec.json.Decoder(Rerank)
_READ = msgspec.json.Decoder(_Read)
_READ_BARE = msgspec.json.Decoder(tuple[BareResult, ...])


def read(body: bytes) -> Question:
    """A question. An empty ``model`` is for us to fill in."""
    sent = strict_json.read(body, _RERANK)
    if sent.documents is not None and sent.texts is not None:
        raise InvalidRequest("documents and texts are the same; send one of them", param="texts")
    bare = sent.texts is not None
    name = "texts" if bare else "documents"
    documents = asked.at_most(asked.required(sent.texts or sent.documents or None, name), MAX_DOCUMENTS, name)
    request = RerankRequest(
        model=sent.model or "",
        query=_bounded(asked.required(sent.query, "query"), "query"),
        documents=tuple(_read_document(one, sent.rank_fields, f"{name}[{i}]") for i, one in enumerate(documents)),
        top_n=asked.within(sent.top_n, 1, 2**31, "top_n"),
        most_tokens=asked.within(sent.max_tokens_per_doc, 1, 2**31, "max_tokens_per_doc"),
        truncate=not bare if sent.truncate is None else sent.truncate,
        raw=bool(sent.raw_scores),
        options=parse_options(sent.options, prefix="options.") if sent.options else NO_OPTIONS,
        keep_alive=read_keep_alive(sent.keep_alive),
    )
    return Question(request, bare=bare, shown=bool(sent.return_text if bare else sent.return_documents))


def _read_document(sent: Any, fields: list[str] | None, name: str) -> str:
    """A text, or an object with one; of an object with several fields those that count, one a line."""
    if isinstance(sent, str):
        return _bounded(sent, name)
    if not isinstance(sent, dict):
        raise InvalidValue(f"{name} must be a text or an object with a text", param=name)
    if fields:
        return _bounded("\n".join(f"{field}: {sent[field]}" for field in fields if field in sent), name)
    if not isinstance(sent.get("text"), str):
        raise Unsupported(f"{name} has no text; nothing else can be ranked", param=name)
    return _bounded(sent["text"], name)


def _bounded(text: str, name: str) -> str:
    if len(text) > MAX_DOCUMENT or len(text.encode()) > MAX_DOCUMENT:
        raise InvalidValue(f"{name} is larger than {MAX_DOCUMENT >> 20} MiB", param=name)
    return text


def write(question: Question) -> bytes:
    """A question as a client sends it."""
    request, bare = question.request, question.bare
    documents = list(request.documents)
    return encode(
        Rerank(
            model=request.model or None,
            query=request.query,
            documents=None if bare else documents,
            texts=documents if bare else None,
            top_n=request.top_n,
            return_documents=None if bare else question.shown or None,
            return_text=(question.shown or None) if bare else None,
            max_tokens_per_doc=request.most_tokens,
            raw_scores=request.raw or None,
            truncate=None if request.truncate == (not bare) else request.truncate,
            options=asked.write_options(request.options) or None,
            keep_alive=write_keep_alive(request.keep_alive),
        )
    )


def write_answer(stamp: Stamp, question: Question, ranking: Ranking) -> bytes:
    """The answer in the form of the question."""
    if question.bare:
        texts = question.request.documents
        return encode(
            tuple(
                BareResult(one.index, one.score, texts[one.index] if question.shown else UNSET)
                for one in ranking.results
            )
        )
    count = ranking.prompt_tokens
    results = _write_results(question, ranking)
    return encode(Answer(stamp.id, stamp.model, results, _Usage(count, count), _Meta(_Tokens(count))))


def write_ollama_answer(stamp: Stamp, question: Question, ranking: Ranking) -> bytes:
    """The answer with Ollama's figures."""
    timings, results = ranking.timings, _write_results(question, ranking)
    return encode(OllamaAnswer(stamp.model, results, timings.total, timings.load, ranking.prompt_tokens))


def _write_results(question: Question, ranking: Ranking) -> tuple[_Result, ...]:
    texts, shown = question.request.documents, question.shown
    return tuple(
        _Result(one.index, one.score, _Document(texts[one.index]) if shown else UNSET) for one in ranking.results
    )


def read_answer(body: bytes) -> Ranking:
    """An answer in any form, in whichever order its results come.

    Raises:
        LocalModelsError: it says that the server failed.
        Garbled: it is something else.
    """
    try:
        if body.lstrip()[:1] == b"[":
            bare = _READ_BARE.decode(body)
            return Ranking(ranked(tuple(Ranked(one.index, one.score) for one in bare), None))
        said = _READ.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is no ranking: {error}") from error
    if said.error is not None:
        raise failures.in_band(said.error)
    if said.results is None:
        raise Garbled("the server's answer is no ranking: it has no results")
    results = ranked(tuple(Ranked(one.index, one.relevance_score) for one in said.results), None)
    count = said.usage.prompt_tokens if said.usage else said.prompt_eval_count
    return Ranking(results, figures.tokens(count), figures.timings(said.total_duration, said.load_duration))
