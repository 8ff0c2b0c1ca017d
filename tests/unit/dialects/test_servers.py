"""The fleet's JSON: what one role writes, the other reads; a key is in no answer; what cannot be is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from localmodels.core.errors import CallerError, Garbled, InvalidRequest, InvalidValue
from localmodels.core.fleet import ModelChange, ModelRow, ServerChange, ServerRow
from localmodels.core.roster import (
    Availability,
    Discovery,
    Freed,
    ModelNow,
    Offer,
    ServerNow,
    Unloaded,
    Wish,
)
from localmodels.core.secrets import Secret
from localmodels.dialects import servers as wire

WORDS = st.lists(st.sampled_from(("general", "code", "reasoning")), max_size=3, unique=True).map(tuple)
SAID: dict[str, st.SearchStrategy[Any]] = {
    "name": st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9 ._-]{0,9}[A-Za-z0-9])?", fullmatch=True),
    "url": st.just("http://10.39.0.102:11434"),
    "api_version": st.sampled_from(("v1", "v1beta", "api")),
    "kind": st.sampled_from(("ollama", "openai", "llamacpp", "anthropic")),
    "description": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "capabilities": WORDS,
    "max_concurrent": st.integers(1, 100_000),
    "max_queue": st.integers(0, 100_000),
    "priority": st.integers(-1_000, 1_000),
    "weight": st.floats(0.001, 1_000),
    "is_default": st.booleans(),
    "is_active": st.booleans(),
    "first_byte": st.floats(0, 86_400, exclude_min=True),
    "idle": st.floats(0, 86_400, exclude_min=True),
}
KEYS = st.none() | st.from_regex(r"[\x21-\x7e]{0,20}", fullmatch=True).map(Secret)
NEW = st.fixed_dictionaries(
    {name: SAID[name] for name in ("name", "url")},
    optional={name: each for name, each in SAID.items() if name not in {"name", "url"}},
)
ROW = ServerRow(
    id="550e8400-e29b-41d4-a716-446655440000",
    name="Ollama Server 1",
    url="http://10.39.0.101:11434",
    kind="ollama",
    capabilities=("general",),
    created_at=10**18,
)
NOW = ServerNow(
    row=ROW,
    prefix="ollama-server-1",
    source="api",
    has_key=True,
    available=True,
    state="up",
    version="0.1.0",
    checked_at=2 * 10**18,
    models=(Offer("deepseek-r1:8b", "ab" * 32, 5_000_000_000, "2024-01-01T12:00:00Z"), Offer("plain")),
)
MODEL = ModelRow(id="m", server_id=ROW.id, model="qwen3:8b", name="Qwen", told=("completion",), size=5, digest="cd")


@given(st.builds(lambda said, key: Wish(said=ServerChange(**said), key=key), NEW, KEYS))
def test_a_server_that_is_wished_for_comes_back(wish: Wish) -> None:
    assert wire.read_server(wire.write_change(wish)) == wish


@given(
    st.builds(
        lambda said, key: Wish(said=ServerChange(**said), key=key), st.fixed_dictionaries({}, optional=SAID), KEYS
    )
)
def test_a_change_comes_back(wish: Wish) -> None:
    assert wire.read_change(wire.write_change(wish)) == wish


def test_the_seed_s_own_body_is_read() -> None:
    body = {
        "name": "New Ollama Server",
        "url": "http://10.39.0.102:11434",
        "api_version": "v1",
        "description": "Описание сервера",
        "capabilities": ["general", "reasoning"],
        "max_concurrent": 2,
        "priority": 1,
        "is_default": False,
    }
    said = wire.read_server(json.dumps(body).encode()).said
    assert {name: getattr(said, name) for name in body} == body | {"capabilities": ("general", "reasoning")}
    assert said.kind is UNSET


def test_null_is_as_good_as_left_out_and_durations_are_words() -> None:
    wish = wire.read_change(b'{"name": null, "key": null, "idle": "1m30s", "first_byte": 5}')
    assert wish == Wish(said=ServerChange(idle=90.0, first_byte=5.0))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "1 to 64 letters"),
        ("name", "a/b", "1 to 64 letters"),
        ("name", " a", "begin and end with a letter"),
        ("name", "x" * 65, "1 to 64 letters"),
        ("name", 7, "must be a text, not a whole number"),
        ("url", "", "http://HOST:PORT"),
        ("url", "http://" + "x" * 2_048, "at most 2,048 characters"),
        ("api_version", "../v1", "such as v1"),
        ("kind", "local", "registered already"),
        ("kind", "vllm", "one of openai, ollama, llamacpp, anthropic, not 'vllm'"),
        ("description", "x" * 2_001, "at most 2,000 characters"),
        ("capabilities", ["code", ""], "words of 1 to 64"),
        ("capabilities", ["a\nb"], "words of 1 to 64"),
        ("capabilities", ["\u202eedoc"], "words of 1 to 64"),
        ("capabilities", ["x"] * 33, "at most 32"),
        ("capabilities", "code", "must be a list, not a text"),
        ("max_concurrent", 0, "whole number from 1 to 100000, not 0"),
        ("max_concurrent", 1.5, "must be a whole number"),
        ("max_concurrent", True, "must be a whole number, not true or false"),
        ("max_queue", -1, "from 0 to 100000"),
        ("priority", 1_001, "from -1000 to 1000"),
        ("weight", 0, "from 0.001 to 1000"),
        ("weight", 1e-320, "from 0.001 to 1000"),
        ("weight", 1e9, "from 0.001 to 1000"),
        ("is_default", "yes", "must be true or false, not a text"),
        ("first_byte", 0, "of at most a day"),
        ("idle", "soon", "such as 30s or 5m"),
        ("key", "two words", "without spaces"),
        ("key", "k" * 4_097, "at most 4,096"),
        ("colour", "red", "nobody knows 'colour' here; there are name, url"),
        ("id", ROW.id, "nobody knows 'id' here"),
    ],
)
def test_what_cannot_be_is_named_with_what_would_be_right(field: str, value: object, words: str) -> None:
    body = json.dumps({"name": "a", "url": "http://a"} | {field: value}).encode()
    for read in (wire.read_server, wire.read_change):
        with pytest.raises(InvalidValue) as caught:
            read(body)
        assert words in caught.value.message
        assert caught.value.param == field


def test_a_key_that_cannot_be_is_not_repeated() -> None:
    with pytest.raises(InvalidValue) as caught:
        wire.read_change(b'{"key": "my secret"}')
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"name": "a", "name": "b"}', b"[" * 100, b"\xff"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    for read in (wire.read_server, wire.read_change, wire.read_model_change):
        with pytest.raises(InvalidRequest):
            read(body)


@pytest.mark.parametrize(("body", "field"), [(b'{"url": "http://a"}', "name"), (b'{"name": "a"}', "url")])
def test_a_new_server_needs_a_name_and_an_address(body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{field} is required") as caught:
        wire.read_server(body)
    assert caught.value.param == field


def test_a_server_is_shown_as_the_seed_has_it() -> None:
    [told] = json.loads(wire.write_servers([NOW]))["servers"]
    seed = {"id", "name", "url", "api_url", "version", "available", "is_default", "models"}
    contract = {"api_version", "kind", "description", "capabilities", "max_concurrent", "priority", "is_active",
                "last_checked_at", "created_at", "updated_at"}  # fmt: skip
    assert seed | contract <= set(told)
    assert told["api_url"] == "http://10.39.0.101:11434/v1"
    assert told["models"][0] == {
        "name": "deepseek-r1:8b",
        "model": "deepseek-r1:8b",
        "size": 5_000_000_000,
        "digest": "sha256:" + "ab" * 32,
        "modified_at": "2024-01-01T12:00:00Z",
    }
    assert told["models"][1] == {"name": "plain", "model": "plain", "size": None, "digest": None, "modified_at": None}
    assert (told["last_checked_at"], told["updated_at"]) == ("2033-05-18T03:33:20.000000000Z", None)
    assert (told["has_key"], "key" in told) == (True, False)


def test_one_that_does_not_answer_is_shown_so() -> None:
    down = ServerNow(row=ROW, prefix="x", source="api", state="down", failure="the server cannot be reached")
    told = json.loads(wire.write_server(down))
    assert (told["available"], told["models"], told["version"]) == (False, [], None)


def test_answers_come_back() -> None:
    [server] = wire.read_servers(wire.write_servers([NOW]))
    assert server == wire.shown(NOW) == wire.read_shown(wire.write_server(NOW))
    assert wire.read_holder(wire.write_holder(NOW)) == (server, server.models)
    model = ModelNow(row=MODEL, server_name="a", available=True, loaded=None)
    assert wire.read_models(wire.write_models([model])) == (wire.read_model(wire.write_model(model)),)
    assert wire.read_model(wire.write_model(model)) == wire.shown_model(model)
    seen = Discovery(found=3, added=1, updated=0, deactivated=2, total=5)
    told = wire.read_discovery(wire.write_discovery(seen, "a"))
    assert told.message == "a has 3 models: 1 new, 0 changed, 2 gone"
    assert (told.models_found, told.models_added, told.models_deactivated, told.total_in_db) == (3, 1, 2, 5)
    for status in ("unloaded", "not_loaded"):
        done = Unloaded(status, "qwen3:8b", ROW.url)
        assert wire.read_unloaded(wire.write_unloaded(done)) == done
    assert wire.read_freed(wire.write_freed(Freed("moved", 2**30))) == Freed("moved", 2**30)


@pytest.mark.parametrize("error", ["", "the server cannot be reached"])
def test_an_availability_says_why_only_where_it_could_not_be_seen(error: str) -> None:
    seen = Availability(
        model_id="m", model_name="qwen3:8b", is_available=not error, is_loaded=None, server_url=ROW.url, error=error
    )
    body = wire.write_availability(seen)
    assert wire.read_availability(body) == seen
    assert ("error" in json.loads(body)) == bool(error)


def test_an_owner_s_word_on_capabilities_stands_before_the_server_s() -> None:
    model = ModelNow(row=MODEL, server_name="a", available=True, loaded=True)
    assert wire.shown_model(model).capabilities == ("completion",)
    row = ModelRow(id="m", server_id="s", model="q", name="q", told=("completion",), capabilities=("code",))
    assert wire.shown_model(ModelNow(row=row, server_name="a", available=True, loaded=True)).capabilities == ("code",)


def test_a_model_s_change_comes_back() -> None:
    change = ModelChange(name="Qwen 3, large", capabilities=("code",), priority=-1, is_active=False)
    assert wire.read_model_change(wire.write_model_change(change)) == change
    assert wire.read_model_change(wire.write_model_change(ModelChange())) == ModelChange()
    for body, field in (
        (b'{"model": "x"}', "model"),
        (b'{"name": "\\n"}', "name"),
        (b'{"priority": 5000}', "priority"),
    ):
        with pytest.raises(InvalidValue) as caught:
            wire.read_model_change(body)
        assert caught.value.param == field


def test_a_release_says_whether_the_processor_goes_on() -> None:
    assert [wire.read_release(wire.write_release(keep_on_cpu=keep)) for keep in (True, False)] == [True, False]
    assert wire.read_release(b"") is wire.read_release(b"{}") is False
    with pytest.raises(CallerError):
        wire.read_release(b'{"keep": true}')


def test_a_switch_of_a_query() -> None:
    assert [wire.read_switch({"active_only": text}, "active_only") for text in ("true", "1", "False")] == [
        True,
        True,
        False,
    ]
    assert not wire.read_switch({}, "active_only")
    with pytest.raises(InvalidValue, match="true or false"):
        wire.read_switch({"active_only": "maybe"}, "active_only")


def test_no_answer_of_ours_is_garbled() -> None:
    for read in (wire.read_servers, wire.read_shown, wire.read_holder, wire.read_models, wire.read_model,
                 wire.read_discovery, wire.read_availability, wire.read_unloaded, wire.read_freed):  # fmt: skip
        for body in (b'{"tags": []}', b"\xff", b"[" * 100_000):
            with pytest.raises(Garbled):
                read(body)
