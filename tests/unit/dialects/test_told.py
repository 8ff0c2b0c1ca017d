"""What servers tell of themselves: read as far as it is sound, in the forms of each kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.catalog import Details, Model, Running
from localmodels.core.errors import Garbled
from localmodels.core.servers import MODEL_NAME
from localmodels.dialects import listing, told
from localmodels.dialects.told import MOST_MODELS, About, Props, Shown

WIRE = Path(__file__).parents[2] / "wire"
DIGEST = "a" * 64
READERS: tuple[Callable[[bytes], object], ...] = (
    told.read_version,
    told.read_about,
    told.read_tags,
    told.read_ps,
    told.read_shown,
    told.read_entries,
    told.read_props,
    told.read_slots,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def tags(*models: dict[str, Any]) -> tuple[Model, ...]:
    return told.read_tags(json.dumps({"models": models}).encode()).models


def entries(*models: dict[str, Any], **fields: Any) -> told.Entries:
    return told.read_entries(json.dumps({"data": models, **fields}).encode())


def test_an_ollama_of_last_year() -> None:
    first, second = told.read_tags((WIRE / "ollama/tags.json").read_bytes()).models
    assert (first.name, first.size) == ("llama3.2:latest", 2_019_393_189)
    assert first.digest == "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"
    assert first.modified_at == "2026-08-21T17:06:18.688310000Z"
    assert first.details == Details("gguf", "llama", ("llama",), "3.2B", "Q4_K_M")
    assert (second.name, second.digest, second.capabilities, second.context_length) == ("bge-m3:latest", "", (), 0)


def test_an_ollama_of_today_tells_more() -> None:
    (model,) = tags(
        {
            "name": "m:7b",
            "digest": DIGEST,
            "capabilities": ["completion", "tools", "image", 7, "tools"],
            "details": {"family": "x", "families": None, "context_length": 131_072, "embedding_length": 4096},
        }
    )
    assert model.capabilities == ("completion", "tools")
    assert (model.context_length, model.embedding_length, model.details.families) == (131_072, 4096, ())


def test_one_of_ours() -> None:
    ours = Model("m:1", 5, DIGEST, "2026-01-02T03:04:05Z", capabilities=("completion", "rerank"), context_length=4096)
    (model,) = told.read_tags(listing.write_tags([ours])).models
    assert (model.name, model.digest, model.capabilities, model.context_length) == (
        "m:1",
        DIGEST,
        ("completion", "rerank"),
        4096,
    )
    running = Running(ours, "running", 7, 10, 8, "2026-01-02T03:04:05Z", 4096)
    assert [one.model.name for one in told.read_ps(listing.write_ps([running]))] == ["m:1"]
    (entry,) = told.read_entries(listing.write_openai_models([ours], {"m:1": 86_400})).models
    assert (entry.name, entry.capabilities, entry.context_length, entry.modified_at[:10]) == (
        "m:1",
        ("completion", "rerank"),
        4096,
        "1970-01-02",
    )


@pytest.mark.parametrize("free", [None, 0, 7, 2**40])
def test_what_is_left_of_a_memory_is_told_by_us_alone(free: int | None) -> None:
    held = told.read_held(listing.write_ps([], memory_free=free))
    assert (held.running, held.memory_free) == ((), free)


@pytest.mark.parametrize(
    "odd", [b"-1", b'"7"', b"1.5", b"true", b"false", b"1e99", b"9007199254740993", b"[]", b"null"]
)
def test_what_cannot_be_left_is_not_known(odd: bytes) -> None:
    held = told.read_held(b'{"models": [], "memory_free": %b}' % odd)
    assert (held.running, held.memory_free) == ((), None)


def test_llamacpp() -> None:
    found = told.read_entries((WIRE / "llamacpp/models.json").read_bytes())
    (model,) = found.models
    assert (model.name, model.size, model.context_length, model.capabilities) == (
        "tiny",
        4_887_552,
        2048,
        ("completion",),
    )
    assert (found.running, found.following) == (None, "")
    props = told.read_props((WIRE / "llamacpp/props.json").read_bytes())
    assert (props.context_length, props.sleeps, props.routes) == (2048, False, False)
    assert told.read_slots((WIRE / "llamacpp/slots.json").read_bytes()) == 0
    assert told.read_slots(b'[{"is_processing": true}, {"is_processing": "true"}, {}]') == 1
    eyes = b'{"modalities": {"vision": true}, "chat_template_caps": {"supports_tools": true}, "build_info": "b9-1"}'
    assert told.read_props(eyes) == Props(version="b9-1", can=("tools", "vision"))


def test_llamacpp_with_many_models_says_which_are_in_memory() -> None:
    found = entries(
        {"id": "a", "status": {"value": "loaded"}, "architecture": {"input_modalities": ["text", "image"]}},
        {"id": "b", "status": {"value": "unloaded"}, "context_length": 8192},
        {"id": "c", "status": {"value": "sleeping"}},
    )
    assert found.running == ("a",)
    assert found.models[0].capabilities == ("completion", "vision")
    assert found.models[1].context_length == 8192


def test_vllm() -> None:
    (model,) = entries({"id": "org/Model-7B", "created": 1_737_783_302, "max_model_len": 131_072}).models
    assert (model.name, model.context_length, model.modified_at[:4]) == ("org/Model-7B", 131_072, "2025")
    assert told.read_version(b'{"version": "0.11.2"}') == "0.11.2"


def test_a_vllm_has_in_memory_what_it_lists_and_tells_the_time_instead_of_a_model_s_moment() -> None:
    body = (WIRE / "vllm/models.json").read_bytes()
    asked = json.loads(body)["data"][0]["created"]
    found = told.read_entries(body, now=asked + 0.5)
    assert [(model.name, model.context_length, model.modified_at) for model in found.models] == [
        ("tiny", 2048, ""),
        ("brief", 2048, ""),  # an adapter of the first: its context is not told, and is that one's
    ]
    assert found.running == ("tiny", "brief")


def test_a_moment_is_none_where_it_may_be_the_other_machine_s_clock() -> None:
    body = b'{"data": [{"id": "m", "created": 1000000}]}'
    early, late = told.LATELY, told.LATELY + 1
    moments = [told.read_entries(body, now=1_000_000 + by).models[0].modified_at for by in (-late, 0, early, late)]
    assert moments == ["", "", "", "1970-01-12T13:46:40.000000000Z"]


def test_an_adapter_of_what_is_not_listed_has_no_context() -> None:
    (model,) = entries({"id": "a", "parent": "b", "owned_by": "vllm"}).models
    assert model.context_length == 0


def test_anthropic_s_pages() -> None:
    page = entries(
        {
            "id": "claude-x",
            "type": "model",
            "created_at": "2026-02-13T02:00:00Z",
            "max_input_tokens": 200_000,
            "capabilities": {"image_input": {"supported": True}, "thinking": {"supported": False}, "batch": None},
        },
        has_more=True,
        first_id="claude-x",
        last_id="claude x&y",
    )
    (model,) = page.models
    assert (model.capabilities, model.context_length) == (("completion", "tools", "vision"), 200_000)
    assert page.following == "?limit=1000&after_id=claude%20x%26y"
    assert entries({"id": "a"}, has_more=False, last_id="a").following == ""
    assert entries(has_more=True, last_id="a").following == "", "an empty page is the last"


def test_what_ollama_shows_of_a_model() -> None:
    body = b'{"capabilities": ["vision"], "model_info": {"general.architecture": "qq", "qq.context_length": 40960}}'
    assert told.read_shown(body) == Shown(("vision",), 40_960)
    assert told.read_shown(b'{"model_info": {"general.architecture": 7}}') == Shown()


def test_the_same_model_with_two_digests_is_a_lie() -> None:
    with pytest.raises(Garbled, match="lists 'm:latest' twice, with different digests"):
        tags({"name": "m", "digest": DIGEST}, {"name": "m:latest", "digest": "b" * 64})
    assert [model.name for model in tags({"name": "m", "digest": DIGEST}, {"name": "m", "digest": DIGEST})] == ["m"]
    assert [model.name for model in entries({"id": "m"}, {"id": "m:latest"}, {"id": "m"}).models] == ["m"]


@pytest.mark.parametrize("digest", ["", "A" * 64, "a" * 63, "a" * 65, "sha512:" + "a" * 64, 7, None, "a" * 64 + "\n"])
def test_a_digest_that_is_none_is_not_known(digest: object) -> None:
    assert tags({"name": "m", "digest": digest})[0].digest == ""


def test_a_digest_with_its_kind_is_the_same() -> None:
    assert tags({"name": "m", "digest": f"sha256:{DIGEST}"})[0].digest == DIGEST


@pytest.mark.parametrize("number", [-1, 1.5, 2**70, True, "7", None, [], 1e300])
def test_a_number_that_is_none_is_not_known(number: object) -> None:
    (model,) = tags({"name": "m", "size": number, "context_length": number})
    assert (model.size, model.context_length) == (0, 0)
    (entry,) = entries({"id": "m", "max_model_len": number, "created": number, "meta": {"n_ctx": number}}).models
    assert (entry.context_length, entry.modified_at) == (0, "")


@pytest.mark.parametrize("moment", ["soon", "2026-99-99T00:00:00Z", "2026-01-01T00:00:00", "", "9" * 999, 7, None])
def test_a_moment_that_is_none_is_not_known(moment: object) -> None:
    assert tags({"name": "m", "modified_at": moment})[0].modified_at == ""


@pytest.mark.parametrize("name", ["", "a b", "x\ny", "z" * 301, "é", "\x00", None, 7, {"a": 1}, "a\u202eb"])
def test_a_name_that_nobody_could_say_is_left_out(name: object) -> None:
    assert [model.name for model in tags({"name": name}, {"name": "m"})] == ["m"]
    assert [model.name for model in entries({"id": name}, {"id": "m"}).models] == ["m"]


def test_a_list_has_an_end() -> None:
    many: list[dict[str, Any]] = [{"name": f"m{number}", "id": f"m{number}"} for number in range(MOST_MODELS + 9)]
    assert len(tags(*many)) == len(entries(*many).models) == MOST_MODELS
    for length, more in ((MOST_MODELS, False), (MOST_MODELS + 1, True)):
        assert entries(*many[:length]).more is more
        assert told.read_tags(json.dumps({"models": many[:length]}).encode()).more is more


def test_what_is_in_memory_has_sound_sizes() -> None:
    (running,) = told.read_ps(b'{"models": [{"name": "m", "size": -1, "size_vram": 7}, {"name": "a b"}]}')
    assert (running.model.name, running.size, running.size_vram) == ("m", 0, 7)


ODD: list[dict[str, Any]] = [
    {"details": None},
    {"details": 7},
    {"digest": None},
    {"digest": "ab"},
    {"size": 10**30, "size_vram": 10**30},
    {"size": "big"},
    {"context_length": -1},
    {"expires_at": "\x1b[31mRED"},
    {"expires_at": None},
    {"status": "\x1b[2J"},
    {"parallel": -3, "busy": 1.5, "queued": None, "pid": -1},
    {"gateways": {"a": 1}},
    {"server": ["x"]},
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: next(iter(odd)))
def test_an_odd_field_of_a_row_in_memory_costs_neither_the_row_nor_the_list(odd: dict[str, Any]) -> None:
    sound = {"name": "m", "size": 5, "size_vram": 5, "expires_at": "2026-12-01T00:00:00Z", "context_length": 9}
    first, second = told.read_ps(json.dumps({"models": [sound | odd, sound | {"name": "n"}]}).encode())
    assert (first.model.name, first.status, first.parallel) == ("m", "running", 1)
    for field in odd.keys() - {"details", "status", "parallel", "gateways", "digest"}:
        assert getattr(first, field) in {0, ""}
    assert (second.size, second.expires_at) == (5, "2026-12-01T00:00:00Z")


def test_no_models_are_none() -> None:
    assert told.read_tags(b'{"models": null}').models == ()
    assert told.read_entries(b'{"object": "list", "data": []}').models == ()


@pytest.mark.parametrize("version", ["", " ", "a b", "x" * 65, "1\r\n", 7, None, ["1"]])
def test_a_version_that_is_none_is_not_known(version: object) -> None:
    assert told.read_version(json.dumps({"version": version}).encode()) == ""


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"7",
        b"null",
        b'"models"',
        b"\xff\xfe{]\x00",
        b"[" * 100_000,
        b'{"models": ' + b'[{"a":' * 100_000,
    ],
)
def test_what_is_no_answer_is_a_failure(read: Callable[[bytes], object], body: bytes) -> None:
    with pytest.raises(Garbled):
        read(body)


@pytest.mark.parametrize("read", [told.read_tags, told.read_entries])
def test_an_object_without_a_list_is_no_list(read: Callable[[bytes], object]) -> None:
    for body in (b"{}", b'{"error": "no"}', b'{"models": 7, "data": 7}', b'{"models": [7], "data": [7]}'):
        with pytest.raises(Garbled):
            read(body)


@given(st.sampled_from(READERS), anything)
def test_nothing_else_ever_comes_out(read: Callable[[bytes], object], value: object) -> None:
    for body in (value, {"models": value}, {"data": value}, {"models": [value]}, {"data": [value]}, [value]):
        try:
            read(json.dumps(body).encode())
        except Garbled:
            continue


@given(st.dictionaries(st.sampled_from(("name", "id", "size", "digest", "details", "meta", "status")), anything))
def test_what_comes_out_is_sound(fields: dict[str, Any]) -> None:
    for models in (tags(fields), entries(fields).models):
        for model in models:
            assert MODEL_NAME.fullmatch(model.name)
            assert model.size >= 0
            assert len(model.digest) in {0, 64}


@pytest.mark.parametrize(
    ("body", "about"),
    [
        ({"version": "1.2", "gateway": "abc123"}, About("1.2", "abc123")),
        ({"version": "0.12.0"}, About("0.12.0")),
        ({"version": 7, "gateway": ["a"]}, About()),
        ({"version": "1", "gateway": "a, b"}, About("1")),
        ({}, About()),
    ],
)
def test_a_gateway_tells_what_it_calls_itself(body: object, about: About) -> None:
    assert told.read_about(json.dumps(body).encode()) == about


def test_lists_of_gateways_tell_through_whom_they_have_a_model() -> None:
    through = ["b", "c"]
    assert [one.gateways for one in tags({"name": "m", "gateways": through}, {"name": "n"})] == [("b", "c"), ()]
    assert entries({"id": "m", "gateways": through}).models[0].gateways == ("b", "c")
    assert tags({"name": "m", "gateways": "b"}, {"name": "n", "gateways": [{}, "b"]})[1].gateways == ("b",)
