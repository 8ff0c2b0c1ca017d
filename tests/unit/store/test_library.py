"""Names lead to the model that was meant, or nowhere; lists and descriptions tell what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.store.ollama_store import TEMPLATE, OllamaStore, write_gguf

from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import ModelName
from localmodels.core.errors import Conflict, ModelDamaged, ModelNotFound, NotFound
from localmodels.store.entries import Damaged, Entry, Source
from localmodels.store.library import Library
from localmodels.store.ollama import OllamaShelf
from localmodels.store.shelves import FileShelf, ModelFiles


def header(**metadata: int) -> Header:
    return Header("m.gguf", 3, {"general.architecture": "llama", **metadata}, (), 32, 0, 0)


def entry(name: str, *, age: int = 0, source: Source = "home", of: Header | None = None) -> Entry:
    return Entry(
        name=ModelName.parse(name),
        source=source,
        model_path=f"/{source}/{name}",
        parts=(f"/{source}/{name}",),
        header=of or header(),
        size=1,
        digest="0" * 64,
        modified_at=f"2026-01-01T00:00:{59 - age:02}.000000000Z",
    )


class FakeShelf:
    """A shelf without a disk; counts how often it was looked through."""

    def __init__(self, *items: Entry | Damaged, source: Source = "home") -> None:
        self.items = items
        self.source: Source = source
        self.listed = 0

    def list(self) -> tuple[Entry | Damaged, ...]:
        self.listed += 1
        return self.items

    def find(self, name: ModelName) -> Entry | None:
        for item in self.items:
            if isinstance(item, Damaged) and item.name == str(name):
                raise ModelDamaged(item.why)
            if isinstance(item, Entry) and item.name == name:
                return item
        return None


def library(*names: str, default: str | None = None, aliases: Mapping[str, str] | None = None) -> Library:
    shelf = FakeShelf(*(entry(name, age=age) for age, name in enumerate(names)))
    return Library([shelf], default=default, aliases=aliases)


FOUND: dict[str, tuple[tuple[str, ...], str, str]] = {
    # what is there, what is asked for, what is found
    "exact": (("m:q4", "m:latest"), "m:q4", "m:q4"),
    "latest": (("m:q4", "m:latest"), "m", "m:latest"),
    "the only tag": (("gpt-oss:20b", "other:20b"), "gpt-oss", "gpt-oss:20b"),
    "the only tag, not another namespace's": (("m:q4", "me/m:q8"), "m", "m:q4"),
    "an alias": (("m:q4", "m:q8"), "short", "m:q8"),
    "an alias with its tag": (("m:q4", "m:q8"), "short:latest", "m:q8"),
    "a model before an alias of its name": (("short:latest", "m:q8"), "short", "short:latest"),
    "llama is the default": (("a:1", "m:q8"), "llama", "a:1"),
    "a model that is called llama": (("a:1", "llama:7b"), "llama", "llama:7b"),
    "ollama/": (("m:q4",), "ollama/m:q4", "m:q4"),
    "ollama_chat/": (("m:q4",), "ollama_chat/m", "m:q4"),
    "openai/": (("m:q4",), "openai/m:q4", "m:q4"),
    "localmodels/": (("m:q4",), "localmodels/m:q4", "m:q4"),
    "a prefix before a namespace": (("me/m:q4",), "openai/me/m:q4", "me/m:q4"),
    "a prefix before llama": (("m:q4",), "openai/llama", "m:q4"),
    "a namespace that is spelled like a prefix": (("openai/m:q4", "m:q4"), "openai/m:q4", "openai/m:q4"),
    "a namespace's only tag before a prefix": (("openai/m:q4", "m:latest"), "openai/m", "openai/m:q4"),
    "another case": (("M:Q4",), "m:q4", "M:Q4"),
    "the right case first": (("M:q4", "m:q4"), "m:q4", "m:q4"),
    "another case and a prefix": (("M:Q4",), "ollama/m", "M:Q4"),
    "an alias in another case": (("m:q8",), "SHORT", "m:q8"),
    "a whole name": (("m:q4",), "registry.ollama.ai/library/m:q4", "m:q4"),
    "another host": (("hf.co/me/m:q4", "m:q4"), "hf.co/me/m", "hf.co/me/m:q4"),
}
ALIASES = {"short": "m:q8", "gone": "nothing:here", "loop": "loop", "round": "about", "about": "round"}


@pytest.mark.parametrize(("there", "asked", "meant"), FOUND.values(), ids=FOUND)
def test_the_model_that_was_meant_is_found(there: tuple[str, ...], asked: str, meant: str) -> None:
    assert str(library(*there, aliases=ALIASES).find(asked).name) == meant


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (("m:q4", "m:q8"), "m"),  # two tags, none of them latest
        (("m:q4",), "m:q8"),
        (("m:q4",), "m:latest"),  # a tag that was asked for is meant
        (("m:q4",), "mm"),
        (("m:q4",), "me/m"),
        (("m:q4",), "azure/m:q4"),
        (("m:q4",), "openai/openai/m:q4"),
        (("m:q4",), ""),
        (("m:q4",), "../m:q4"),
        (("m:q4",), "ollama/"),
        (("m:q4",), "x" * 10_000),
        (("m:q4",), "gone"),
        (("m:q4",), "loop"),
        (("m:q4",), "round"),
        ((), "llama"),
        ((), "m"),
    ],
)
def test_never_some_other_model_instead(there: tuple[str, ...], asked: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        library(*there, aliases=ALIASES).find(asked)
    assert refused.value.name == asked


def test_who_names_none_gets_the_default() -> None:
    assert str(library("m:q4", "n").unnamed().name) == str(library("m:q4", "n").default_name())
    assert str(library("m:q4", "n", default="m:q4").unnamed().name) == "m:q4"
    with pytest.raises(ModelNotFound, match="'gone'"):
        library("m:q4", default="gone").unnamed()
    with pytest.raises(NotFound, match="there is no model here"):
        library().unnamed()


def test_a_name_that_an_earlier_shelf_has_is_not_to_be_given() -> None:
    hidden = ModelName.parse("m:q4")
    named = FakeShelf(entry("m:q4", source="file"), Damaged("bad:latest", "damaged", "file"), source="file")
    later = FakeShelf(entry("late", source="ollama"), source="ollama")
    roof = Library([named, FakeShelf(entry("m:q4")), later])
    for name in (hidden, ModelName.parse("bad")):
        with pytest.raises(Conflict, match="--model"):
            roof.require_seen(name)
    for free in ("late", "m:q8"):
        roof.require_seen(ModelName.parse(free))


@given(st.text(max_size=40))
def test_any_text_finds_a_model_or_none(text: str) -> None:
    try:
        found = library("m:q4", "llama:7b", aliases=ALIASES).find(text)
    except ModelNotFound:
        return
    assert str(found.name) in {"m:q4", "llama:7b"}


def test_a_name_that_is_written_right_is_found_without_looking_through_the_shelves() -> None:
    shelf = FakeShelf(entry("m:latest"))
    assert str(Library([shelf]).find("m").name) == "m:latest"
    assert shelf.listed == 0


def test_a_name_that_leads_nowhere_costs_one_look() -> None:
    shelf = FakeShelf(entry("m:latest"))
    with pytest.raises(ModelNotFound):
        Library([shelf]).find("openai/other")
    assert shelf.listed == 1


def test_the_earlier_shelf_wins() -> None:
    both = Library([FakeShelf(entry("m:q4", source="file")), FakeShelf(entry("m:q4", source="ollama"), entry("n:q4"))])
    assert both.find("m:q4").source == "file"
    assert [(str(one.name), one.source) for one in both.list()] == [("n:q4", "home"), ("m:q4", "file")]


def test_a_damaged_model_says_why_instead_of_giving_way_to_its_other_tags() -> None:
    shelf = FakeShelf(Damaged("m:latest", "blob: missing", "home"), entry("m:q4"))
    for asked in ("m", "m:latest", "openai/m"):
        with pytest.raises(ModelDamaged, match="'m:latest' cannot be used: blob: missing"):
            Library([shelf]).find(asked)
    assert str(Library([shelf]).find("m:q4").name) == "m:q4"


def test_a_damaged_model_gives_way_to_a_whole_one_of_its_name() -> None:
    shelves = [FakeShelf(Damaged("m:latest", "cut", "home")), FakeShelf(entry("m:latest", source="ollama"))]
    assert Library(shelves).find("m").source == "ollama"


def test_the_newest_stands_first() -> None:
    shelf = FakeShelf(entry("old:1", age=9), entry("new:1", age=1), entry("middle:1", age=5))
    assert [str(one.name) for one in Library([shelf]).list()] == ["new:1", "middle:1", "old:1"]


def test_damaged_models_are_told() -> None:
    damaged = Damaged("m:latest", "cut", "home")
    shelf = FakeShelf(damaged, entry("n:1"))
    assert Library([shelf]).damaged() == (damaged,)
    assert [model.name for model in Library([shelf]).models()] == ["n:1"]


# The default model


EMBEDDER = header(**{"llama.pooling_type": 1})


@pytest.mark.parametrize(
    ("items", "configured", "default"),
    [
        ((), None, None),
        ((entry("localmodels", source="builtin"),), None, "localmodels:latest"),
        ((entry("localmodels", source="builtin"), entry("m:q4", age=30)), None, "m:q4"),
        ((entry("m:q4", age=3), entry("n:q4", age=1)), None, "n:q4"),
        ((entry("m:q4", age=3), entry("e:1", of=EMBEDDER)), None, "m:q4"),
        ((entry("e:1", of=EMBEDDER),), None, None),
        ((entry("m:q4", age=3), entry("n:q4", age=1)), "m", "m:q4"),
        ((entry("m:q4"),), "gone", None),
        ((entry("m:q4"),), "llama", None),
    ],
)
def test_the_default_model(items: tuple[Entry, ...], configured: str | None, default: str | None) -> None:
    shelves = Library([FakeShelf(*items)], default=configured)
    found = shelves.default()
    assert (found and str(found.name)) == default
    assert shelves.default_name() == (configured or default or "")


def test_a_default_that_is_gone_is_not_replaced() -> None:
    with pytest.raises(ModelNotFound):
        library("m:q4", default="gone").find("llama")


# What is told


def test_everything_about_a_model(store: OllamaStore, weights: bytes) -> None:
    params = {"temperature": 0.5, "stop": ["a", "b"], "num_gqa": 8}
    store.add("m:q4", weights, ("system", b"Be kind."), ("params", json.dumps(params).encode()), ("license", b"MIT"))
    description = Library([OllamaShelf(store.root)]).describe("m")
    assert description.model.name == "m:q4"
    assert (description.model.context_length, description.model.embedding_length) == (4096, 8)
    assert description.model.capabilities == ("completion",)
    assert (description.template, description.system, description.license) == (TEMPLATE, "Be kind.", "MIT")
    assert description.options.stop == ("a", "b")
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in description.tensors] == [
        ("token_embd.weight", "F32", (8, 3))
    ]
    lines = description.modelfile.splitlines()
    assert "FROM m:q4" in lines[2]
    for line in ("SYSTEM Be kind.", "PARAMETER temperature 0.5", "PARAMETER stop b", "PARAMETER num_gqa 8"):
        assert line in lines


def test_the_metadata_is_told_as_ollama_tells_it(tmp_path: Path) -> None:
    shelf = FileShelf({ModelName.parse("m"): ModelFiles(write_gguf(tmp_path / "m.gguf"))})
    info = Library([shelf]).describe("m").info
    assert info["general.architecture"] == "llama"
    assert info["general.parameter_count"] == 24
    assert info["llama.context_length"] == 4096
    assert info["tokenizer.ggml.tokens"] is None
    assert not {"general.name", "tokenizer.chat_template"} & set(info)
    assert list(info) == sorted(info)
    verbose = Library([shelf]).describe("m", verbose=True).info
    assert verbose["tokenizer.ggml.tokens"] == ("<s>", "a", "b")
    msgspec.json.encode(verbose)


def test_a_go_template_goes_before_the_models_own(store: OllamaStore, weights: bytes) -> None:
    store.add("m:q4", weights, ("template", b"{{ .Prompt }}"))
    assert Library([OllamaShelf(store.root)]).describe("m").template == "{{ .Prompt }}"


@pytest.mark.parametrize(
    ("there", "asked", "meant"),
    [
        (("m:latest", "m:q4"), "m", "m:latest"),
        (("M:Q4",), "m:q4", "M:Q4"),
        (("M:q4", "m:q4"), "m:q4", "m:q4"),
        (("openai/m:q4", "m:q4"), "openai/m:q4", "openai/m:q4"),
        (("m:q4",), "registry.ollama.ai/library/m:q4", "m:q4"),
    ],
)
def test_who_changes_a_model_says_which(there: tuple[str, ...], asked: str, meant: str) -> None:
    assert str(library(*there, aliases=ALIASES).named(asked).name) == meant


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (("m:q4",), "m"),  # the only tag
        (("m:q8",), "short"),  # an alias
        (("m:q4",), "llama"),  # the default model
        (("m:q4",), "ollama/m:q4"),  # a prefix
    ],
)
def test_no_other_model_is_changed_instead(there: tuple[str, ...], asked: str) -> None:
    with pytest.raises(ModelNotFound):
        library(*there, aliases=ALIASES).named(asked)


def test_a_damaged_model_that_was_named_is_told() -> None:
    for asked in ("m:q4", "M:Q4"):
        with pytest.raises(ModelDamaged, match="too short"):
            Library([FakeShelf(Damaged("m:q4", "too short", "home"))]).named(asked)
