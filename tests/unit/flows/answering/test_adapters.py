"""Names of adapters become places, and every adapter gets a scale."""

from __future__ import annotations

import pytest

from localmodels.core.chat import ChatRequest, GenerateRequest, Lora
from localmodels.core.errors import InvalidRequest, Unsupported
from localmodels.flows.answering.adapters import with_adapters

NAMES = ("style", "tone")


def scales(lora: tuple[Lora, ...] | None, names: tuple[str, ...] = NAMES) -> tuple[Lora, ...] | None:
    return with_adapters(ChatRequest("m", (), lora=lora), "m:latest", names).lora


def test_nothing_said_is_all_in_full() -> None:
    assert scales(None) == (Lora(0, 1.0), Lora(1, 1.0))
    assert with_adapters(GenerateRequest("m"), "m", ("one",)).lora == (Lora(0, 1.0),)


def test_what_is_not_named_does_not_count() -> None:
    assert scales(()) == (Lora(0, 0.0), Lora(1, 0.0))
    assert scales((Lora("tone", 0.5),)) == (Lora(0, 0.0), Lora(1, 0.5))
    assert scales((Lora("tone.gguf"), Lora(0, -1.0))) == (Lora(0, -1.0), Lora(1, 1.0))


def test_a_model_without_adapters_is_left_alone() -> None:
    request = ChatRequest("m", ())
    assert with_adapters(request, "m", ()) is request
    assert scales((), ()) == ()
    with pytest.raises(Unsupported, match="m:latest has no adapters"):
        scales((Lora("style"),), ())


@pytest.mark.parametrize("adapter", ["stile", "", 2, -1])
def test_one_that_is_not_there_is_told_with_those_that_are(adapter: str | int) -> None:
    with pytest.raises(InvalidRequest, match=r"lora\[1\]: .* it has style \(id 0\), tone \(id 1\)") as raised:
        scales((Lora("tone"), Lora(adapter)))
    assert raised.value.param == "lora[1]"
