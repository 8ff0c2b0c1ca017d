"""The small blobs of a model that is made: what is written is read back, and what could not be read is refused."""

from __future__ import annotations

from typing import Any

import pytest

from localmodels.core.errors import InvalidValue
from localmodels.core.library import CreateRequest
from localmodels.dialects.ollama.library import read_parameters
from localmodels.flows.library.config_blobs import MOST_TEXTS, texts_of
from localmodels.store.manifests import TEXT_BYTES, parse_messages, parse_parameters, parse_text


def made(**fields: Any) -> dict[str, bytes]:
    return dict(texts_of(CreateRequest("m", **fields), None))


def test_every_option_is_read_back_as_it_was_asked_for() -> None:
    sent = {"temperature": 0.5, "stop": ["END"], "num_ctx": 512, "logit_bias": {"5": -100, "7": 1.5}, "use_mlock": True}
    read = parse_parameters(made(parameters=read_parameters(sent, "parameters."))["params"])
    assert read.options.logit_bias == ((5, -100.0), (7, 1.5))
    assert (read.options.temperature, read.options.stop, read.options.num_ctx) == (0.5, ("END",), 512)
    assert dict(read.others) == {"use_mlock": True}


def test_the_longest_texts_are_read_back() -> None:
    long = "a" * TEXT_BYTES
    texts = made(template=long, system=long, license=(long,))
    assert [parse_text(texts[kind]) for kind in ("template", "system", "license")] == [long] * 3
    assert parse_messages(made(messages=(("user", "hi"),))["messages"]) == (("user", "hi"),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"template": "a" * (TEXT_BYTES + 1)}, "template"),
        ({"system": "ä" * (TEXT_BYTES // 2 + 1)}, "system"),
        ({"messages": (("user", "a" * TEXT_BYTES),)}, "messages"),
        ({"license": ("a" * TEXT_BYTES, "b")}, "license"),
        ({"license": ("a",) * (MOST_TEXTS + 1)}, "license"),
        ({"parameters": (("stop", ("a" * TEXT_BYTES,)),)}, "parameters"),
    ],
)
def test_what_could_not_be_read_again_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue, match="at most") as refused:
        texts_of(CreateRequest("m", **fields), None)
    assert refused.value.param == param
