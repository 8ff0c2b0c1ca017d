"""Ollama's library requests and streams of progress: what is written is read back, what is wrong is named."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.errors import CallerError, Garbled, InvalidRequest, InvalidValue, LocalModelsError, StreamCut
from localmodels.core.library import (
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Progress,
    PullRequest,
    PushRequest,
)
from localmodels.dialects.ollama import library

NAMES = st.text(min_size=1, max_size=20)
TEXTS = st.text(max_size=40)
DIGEST = "sha256:" + "a1" * 32


def create(**fields: Any) -> CreateRequest:
    return library.read_create(msgspec.json.encode({"model": "m", "from": "base", **fields}))


@given(NAMES, st.booleans(), st.booleans())
def test_transfers_are_read_back(model: str, insecure: bool, stream: bool) -> None:
    pull, push = PullRequest(model, insecure, stream), PushRequest(model, insecure, stream)
    assert library.read_pull(library.write_pull(pull)) == pull
    assert library.read_push(library.write_push(push)) == push


@given(NAMES, NAMES)
def test_copies_and_deletions_are_read_back(source: str, destination: str) -> None:
    copy, delete = CopyRequest(source, destination), DeleteRequest(source)
    assert library.read_copy(library.write_copy(copy)) == copy
    assert library.read_delete(library.write_delete(delete)) == delete


@given(
    st.builds(
        CreateRequest,
        model=NAMES,
        base=NAMES,
        files=st.lists(st.tuples(NAMES, TEXTS), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
        adapters=st.lists(st.tuples(NAMES, TEXTS), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
        template=st.none() | TEXTS,
        system=st.none() | TEXTS,
        parameters=st.sampled_from([(), (("temperature", 0.5), ("stop", ("a", "b"))), (("numa", True),)]),
        messages=st.none() | st.lists(st.tuples(st.sampled_from(library.ROLES), TEXTS), max_size=3).map(tuple),
        license=st.none() | st.lists(TEXTS, max_size=2).map(tuple),
        quantize=TEXTS,
        requires=TEXTS,
        stream=st.booleans(),
    )
)
def test_creations_are_read_back(request: CreateRequest) -> None:
    assert library.read_create(library.write_create(request)) == request


def test_both_words_for_the_model_are_taken() -> None:
    assert library.read_pull(b'{"name":"m"}').model == "m"
    assert library.read_push(b'{"name":"m"}').model == "m"
    assert library.read_delete(b'{"name":"m"}').model == "m"
    assert library.read_create(b'{"name":"m","from":"b"}').model == "m"
    assert create(quantization="Q4_0").quantize == "Q4_0"


@pytest.mark.parametrize("read", [library.read_pull, library.read_push, library.read_delete, library.read_copy])
def test_a_request_names_something(read: Any) -> None:
    with pytest.raises(InvalidRequest, match="is required"):
        read(b"{}")


def test_an_artifact_is_enough() -> None:
    request = library.read_create(b'{"model":"m","artifact":"mine"}')
    assert (request.artifact, request.base, request.files) == ("mine", "", ())
    assert library.read_create(library.write_create(request)) == request


@pytest.mark.parametrize("name", ["", "/a.json", "../a.json", "a/../b", "a//b", "a/", "./a"])
@pytest.mark.parametrize("field", ["files", "adapters"])
def test_files_are_named_within_their_folder(field: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match="file path must be relative"):
        create(**{field: {name: "sha256:0"}})
    assert dict(create(files={"1_Pooling/config.json": "x"}).files) == {"1_Pooling/config.json": "x"}


def test_a_license_may_be_one_text_or_several() -> None:
    assert create(license="MIT").license == ("MIT",)
    assert create(license=["a", "b"]).license == ("a", "b")
    assert create().license is None


def test_parameters_follow_the_table_of_options() -> None:
    assert create(parameters={"temperature": 1, "num_ctx": 2048.0}).parameters == (
        ("temperature", 1.0),
        ("num_ctx", 2048),
    )
    assert create(parameters={"penalize_newline": False, "top_k": None}).parameters == (("penalize_newline", False),)


@pytest.mark.parametrize(
    ("fields", "param", "error"),
    [
        ({"parameters": {"temperature": 99}}, "parameters.temperature", InvalidValue),
        ({"parameters": {"temprature": 1}}, "parameters.temprature", InvalidValue),
        ({"parameters": {"numa": {}}}, "parameters.numa", InvalidValue),
        ({"messages": [{"role": "user"}, {"role": "king"}]}, "messages[1].role", InvalidValue),
        ({"messages": "hi"}, "messages", InvalidValue),
        ({"files": {"a": 1}}, "files", InvalidValue),
        ({"from": ""}, "from", InvalidRequest),
        ({"model": ""}, "model", InvalidRequest),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, error: type[CallerError]) -> None:
    with pytest.raises(error) as raised:
        create(**fields)
    assert raised.value.param == param


PROGRESS = st.builds(
    Progress,
    status=st.text(min_size=1, max_size=20).filter(lambda text: text != "success"),
    digest=st.sampled_from(["", DIGEST]),
    total=st.integers(0, 2**53),
    completed=st.integers(0, 2**53),
)


def read(data: bytes, cuts: list[int]) -> list[Progress]:
    reader = library.ProgressReader()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    said = [step for start, end in pairwise(edges) for step in reader.feed(data[start:end])]
    reader.close()
    return said


@given(st.lists(PROGRESS, max_size=5), st.lists(st.integers(0, 400), max_size=8))
def test_progress_is_read_back_for_any_split(steps: list[Progress], cuts: list[int]) -> None:
    steps = [*steps, Progress("success")]
    assert read(b"".join(map(library.write_progress, steps)), cuts) == steps


def test_progress_byte_for_byte() -> None:
    line = library.write_progress(Progress("pulling a1a1", DIGEST, 10, 3))
    assert line.decode() == f'{{"status":"pulling a1a1","digest":"{DIGEST}","total":10,"completed":3}}\n'
    assert library.write_progress(Progress("success")) == b'{"status":"success"}\n'


def test_a_stream_without_success_was_cut() -> None:
    with pytest.raises(StreamCut):
        read(library.write_progress(Progress("writing manifest")), [])


def test_an_error_in_the_stream_is_raised() -> None:
    with pytest.raises(LocalModelsError, match="no space"):
        read(b'{"status":"a"}\n{"error":"no space"}\n{"status":"success"}\n', [])


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b'{"total":"x"}\n', b'{"status":"\xff"}\n'])
def test_other_lines_are_garbled(line: bytes) -> None:
    with pytest.raises(Garbled):
        read(line, [])
