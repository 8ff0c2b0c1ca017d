"""Ollama's library requests and streams of progress: what is written is read back, what is wrong is named."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.errors import (
    BackendError,
    CallerError,
    Garbled,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    StreamCut,
)
from localmodels.core.library import (
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Outcome,
    PartlyDone,
    Progress,
    PullRequest,
    PushRequest,
)
from localmodels.dialects.ollama import library, unloading

NAMES = st.text(min_size=1, max_size=20)
TEXTS = st.text(max_size=40)
FILES = NAMES.filter(lambda name: not {"", ".", ".."} & {*name.split("/")})
SERVERS = st.sampled_from([(), ("*",), ("b",), ("b", "9b0c")])
DIGEST = "sha256:" + "a1" * 32


def create(**fields: Any) -> CreateRequest:
    return library.read_create(msgspec.json.encode({"model": "m", "from": "base", **fields}))


@given(NAMES, st.booleans(), st.booleans(), SERVERS)
def test_transfers_are_read_back(model: str, insecure: bool, stream: bool, servers: tuple[str, ...]) -> None:
    pull = PullRequest(model, insecure, stream, servers=servers)
    push = PushRequest(model, insecure, stream, servers=servers)
    assert library.read_pull(library.write_pull(pull)) == pull
    assert library.read_push(library.write_push(push)) == push


@given(NAMES, NAMES, SERVERS)
def test_copies_and_deletions_are_read_back(source: str, destination: str, servers: tuple[str, ...]) -> None:
    copy, delete = CopyRequest(source, destination, servers), DeleteRequest(source, servers)
    assert library.read_copy(library.write_copy(copy)) == copy
    assert library.read_delete(library.write_delete(delete)) == delete


@given(
    st.builds(
        CreateRequest,
        model=NAMES,
        base=NAMES,
        files=st.lists(st.tuples(FILES, TEXTS), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
        adapters=st.lists(st.tuples(FILES, TEXTS), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
        template=st.none() | TEXTS,
        system=st.none() | TEXTS,
        parameters=st.sampled_from([(), (("temperature", 0.5), ("stop", ("a", "b"))), (("numa", True),)]),
        messages=st.none() | st.lists(st.tuples(st.sampled_from(library.ROLES), TEXTS), max_size=3).map(tuple),
        license=st.none() | st.lists(TEXTS, max_size=2).map(tuple),
        quantize=TEXTS,
        requires=TEXTS,
        stream=st.booleans(),
        servers=SERVERS,
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
    server=st.sampled_from(["", "b"]),
    failure=st.sampled_from(["", "it is gone"]),
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


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_a_stream_that_failed_in_part_says_what_became_of_every_server(cut: int) -> None:
    steps = (
        Progress("skipped", server="v", failure="it is of the kind openai"),
        Progress("pulling a1", "sha256:a1", 10, 5, server="a"),
        Progress("error", server="b", failure="no room"),
        Progress("success", server="a"),
    )
    last = b'{"error": "1 of 3 servers failed: b: no room"}\n'
    with pytest.raises(PartlyDone, match="1 of 3 servers failed: b: no room") as raised:
        read(b"".join(map(library.write_progress, steps)) + last, [cut])
    assert raised.value.outcomes == (
        Outcome("v", "skipped", "it is of the kind openai"),
        Outcome("a", "success"),
        Outcome("b", "error", "no room"),
    )
    for some in (steps[:2], steps[:3], ()):  # nobody knows what became of a, or nothing is said of any
        with pytest.raises(BackendError) as other:
            read(b"".join(map(library.write_progress, some)) + last, [cut])
        assert not isinstance(other.value, PartlyDone)


def test_an_answer_of_a_partial_failure_is_read_back() -> None:
    outcomes = (Outcome("a", "success"), Outcome("b", "error", "gone"), Outcome("c", "not found"))
    read_back = library.read_partly_done(library.write_outcomes(outcomes, str(PartlyDone(outcomes))))
    assert read_back is not None
    assert (read_back.outcomes, read_back.message) == (outcomes, "1 of 3 servers failed: b: gone")
    for body in (b"", b"<html>", b'{"error": "no"}', b'{"servers": 5}', library.write_outcomes(outcomes[:1])):
        assert library.read_partly_done(body) is None


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


# Several servers


@pytest.mark.parametrize("sent", ["", [], ["a", ""], ["a"] * 1_001])
def test_servers_are_named(sent: Any) -> None:
    with pytest.raises(CallerError):
        library.read_pull(msgspec.json.encode({"model": "m", "server": sent}))


def test_a_server_is_named_once() -> None:
    assert library.read_pull(b'{"model": "m", "server": ["a", "b", "a"]}').servers == ("a", "b")
    assert library.read_delete(b'{"model": "m", "server": "*"}').servers == ("*",)
    assert create().servers == library.read_copy(b'{"source": "a", "destination": "b"}').servers == ()


def test_a_request_that_names_no_server_is_ollamas_own() -> None:
    assert b"server" not in library.write_pull(PullRequest("m"))
    assert b"server" not in library.write_delete(DeleteRequest("m"))
    assert b"server" not in library.write_copy(CopyRequest("a", "b"))


def test_the_success_of_one_server_is_not_the_end() -> None:
    line = library.write_progress(Progress("success", server="b"))
    assert line == b'{"status":"success","server":"b"}\n'
    with pytest.raises(StreamCut):
        read(line, [])
    failed = library.write_progress(Progress("error", server="b", failure="gone \udc80"))
    assert failed == b'{"status":"error","server":"b","failure":"gone \\\\udc80"}\n'


def test_outcomes_are_read_back() -> None:
    outcomes = (Outcome("a", "success"), Outcome("b", "not found"))
    assert library.read_outcomes(library.write_outcomes(outcomes)) == outcomes
    assert library.write_outcomes(()) == b'{"status":"success"}'
    assert library.read_outcomes(b"") == ()
    failed = msgspec.json.decode(
        library.write_outcomes((Outcome("a", "error", "gone"),), "1 of 1 servers failed: a: gone")
    )
    assert (failed["status"], failed["error"]) == ("error", "1 of 1 servers failed: a: gone")
    assert failed["servers"] == [{"server": "a", "status": "error", "failure": "gone"}]
    with pytest.raises(Garbled):
        library.read_outcomes(b"[1]")


def unload(**fields: Any) -> unloading.Unload | None:
    return unloading.read_unload(msgspec.json.encode({"model": "m", **fields}))


def test_an_unload_names_servers_and_nothing_to_answer() -> None:
    assert unload(server="*", keep_alive=0) == unloading.Unload("m", ("*",))
    assert unload(server=["a"], keep_alive="0s", prompt="", messages=[], stream=False) == unloading.Unload(
        "m", ("a",), stream=False
    )
    assert unload(prompt='"server"') is unload(keep_alive=0) is unload(server=None, prompt="hi") is None


@pytest.mark.parametrize(
    "fields",
    [{}, {"keep_alive": 5}, {"keep_alive": 0, "prompt": "hi"}, {"keep_alive": 0, "messages": [{"role": "user"}]}],
)
def test_more_than_an_unload_names_its_server_in_the_model(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="SERVER/MODEL"):
        unload(server="a", **fields)


def test_an_unload_is_read_back() -> None:
    written = unloading.write_unload("m", ("a", "b"))
    assert unloading.read_unload(written) == unloading.Unload("m", ("a", "b"), stream=False)
    with pytest.raises(Garbled):
        unloading.read_unloaded(b"[1]")


@pytest.mark.parametrize("chat", [True, False])
def test_an_unload_is_answered_as_by_ollama(*, chat: bool) -> None:
    told = msgspec.json.decode(unloading.write_unloaded("m", (Outcome("a", "success"),), chat=chat))
    assert (told["model"], told["done"], told["done_reason"]) == ("m", True, "unload")
    assert unloading.read_unloaded(msgspec.json.encode(told)) == (Outcome("a", "success"),)
    assert told["message" if chat else "response"] == ({"role": "assistant", "content": ""} if chat else "")
