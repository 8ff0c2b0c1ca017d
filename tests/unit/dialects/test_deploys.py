"""Seed 001's requests: what one role writes the other reads, as JSON and as a form, and what is none is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects.strategies import texts, words

from localmodels.core.artifacts import Artifact, ArtifactFile
from localmodels.core.deploys import Deployment, Removal
from localmodels.core.errors import Garbled, InvalidRequest, InvalidValue
from localmodels.core.library import CreateRequest
from localmodels.core.tasks import Event
from localmodels.dialects import deploys as dialect
from localmodels.dialects.tasks import write_event

PARAMETERS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_k": st.integers(0, 1000),
        "stop": st.lists(words, min_size=1, max_size=2).map(tuple),
    },
)


def deployment(artifact: str, model: str, server: str, parameters: dict[str, Any], **fields: Any) -> Deployment:
    """What a reader makes of these."""
    create = CreateRequest(model, artifact=artifact, parameters=tuple(parameters.items()), **fields)
    return Deployment(create, server)


DEPLOYMENTS = st.builds(
    deployment,
    artifact=words,
    model=words,
    server=texts,
    parameters=PARAMETERS,
    base=texts,
    quantize=texts,
    template=st.none() | texts,
    system=st.none() | texts,
)


@given(DEPLOYMENTS)
def test_a_creation_comes_back(wanted: Deployment) -> None:
    assert plain(dialect.read_create(dialect.write_create(wanted))) == plain(wanted)


@given(DEPLOYMENTS)
def test_a_form_says_what_the_json_says(wanted: Deployment) -> None:
    fields = dialect.write_form(wanted)
    assert "model" not in fields
    assert all(isinstance(value, str) for value in fields.values())
    assert plain(dialect.read_form(fields, wanted.create.artifact)) == plain(wanted)


def plain(wanted: Deployment) -> Any:
    """Its values, whose order in ``parameters`` says nothing."""
    values = msgspec.to_builtins(wanted)
    values["create"]["parameters"] = sorted(values["create"]["parameters"])
    return values


@given(words)
def test_a_removal_comes_back(name: str) -> None:
    assert dialect.read_delete(dialect.write_delete(Removal(name))) == Removal(name)


def test_an_empty_text_takes_away_and_a_missing_one_leaves() -> None:
    named = {"model_name_on_ollama": "m"}
    assert dialect.read_form(named, "a").create.template is None
    assert dialect.read_form({**named, "template": ""}, "a").create.template == ""


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (b"", InvalidRequest, None),
        (b"[]", InvalidRequest, None),
        (b"{}", InvalidRequest, "model"),
        (b'{"model": "a"}', InvalidRequest, "model_name_on_ollama"),
        (b'{"model": "a", "model_name_on_ollama": ""}', InvalidRequest, "model_name_on_ollama"),
        (b'{"model": "a", "model": "b", "model_name_on_ollama": "m"}', InvalidRequest, None),
        (b'{"model": 1, "model_name_on_ollama": "m"}', InvalidValue, "model"),
        (b'{"model": "a", "model_name_on_ollama": "m", "base": []}', InvalidValue, "base"),
        (b'{"model": "a", "model_name_on_ollama": "m", "parameters": {"heat": 1}}', InvalidValue, "parameters.heat"),
        (b'{"model": "a", "model_name_on_ollama": "m", "parameters": {"seed": "x"}}', InvalidValue, "parameters.seed"),
    ],
)  # fmt: skip
def test_a_creation_that_is_none(body: bytes, error: type[Exception], param: str | None) -> None:
    with pytest.raises(error) as raised:
        dialect.read_create(body)
    assert raised.value.param == param  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({}, InvalidRequest, "model_name_on_ollama"),
        ({"model_name_on_ollama": "m", "model": "other"}, InvalidRequest, "model"),
        ({"model_name_on_ollama": "m", "quantise": "Q8_0"}, InvalidRequest, "quantise"),
        ({"model_name_on_ollama": "m", "parameters": "{"}, InvalidRequest, "parameters"),
        ({"model_name_on_ollama": "m", "parameters": '{}, "server": "far"'}, InvalidRequest, "parameters"),
        ({"model_name_on_ollama": "m", "parameters": "[]"}, InvalidValue, "parameters"),
        ({"model_name_on_ollama": "m", "parameters": '{"top_k": 1, "top_k": 2}'}, InvalidRequest, None),
        ({"model_name_on_ollama": "m", "parameters": '{"heat": 1}'}, InvalidValue, "parameters.heat"),
    ],
)
def test_a_form_that_is_none(fields: dict[str, str], error: type[Exception], param: str | None) -> None:
    with pytest.raises(error) as raised:
        dialect.read_form(fields, "a")
    assert raised.value.param == param  # type: ignore[attr-defined]


def test_an_unknown_field_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRequest, match=r"'x'; the form has Model \(the file\), base, model_name_on_ollama, "):
        dialect.read_form({"x": "", "model_name_on_ollama": "m"}, "a")


@pytest.mark.parametrize("body", [b"{}", b'{"model": ""}'])
def test_a_removal_of_nothing(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="model is required"):
        dialect.read_delete(body)


def test_the_list_of_artifacts_comes_back() -> None:
    artifacts = (
        Artifact(name="a", kind="model", size=3, files=(ArtifactFile("x/y.json", 3),), notes=("two",), created_at=9),
        Artifact(name="b", kind="adapter", size=0, base="someone/tiny"),
    )  # fmt: skip
    body = b"".join(
        write_event("t", Event(n, "Get model.", 1.0, {"model": one.name, **msgspec.to_builtins(one)}))
        for n, one in enumerate(artifacts)
    )
    assert dialect.read_artifacts(body) == artifacts
    assert dialect.read_artifacts(b"") == ()
    for bad in (b"{}\n", b"nonsense\n", write_event("t", Event(0, "Get model.", 1.0, {"name": "a"}))):
        with pytest.raises(Garbled):
            dialect.read_artifacts(bad)
