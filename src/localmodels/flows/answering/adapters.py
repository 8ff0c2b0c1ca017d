"""Which of a model's LoRA adapters count for a request: names become places, and what is not named counts nothing.

The rule: a request to a model with adapters always says of every one how much it counts. The engine compares what it is
told with what it was told before, and forgets what it has computed when the two differ; told nothing, it would go on
with what it computed under other adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, GenerateRequest, Lora
from localmodels.core.errors import InvalidRequest, Unsupported

Asked = TypeVar("Asked", ChatRequest, GenerateRequest)


def with_adapters(request: Asked, model: str, names: Sequence[str]) -> Asked:
    """The request with a scale for each adapter, in their order; all count in full where it says nothing.

    Args:
        request: as it came.
        model: its name, for objections.
        names: of its adapters, by their places.

    Raises:
        Unsupported: the model has no adapters, and the request names some.
        InvalidRequest: it names one that the model does not have.
    """
    if not names:
        if request.lora:
            raise Unsupported(f"{model} has no adapters", param="lora")
        return request
    if request.lora is None:
        return replace(request, lora=tuple(Lora(place) for place in range(len(names))))
    scales = [0.0] * len(names)
    for number, one in enumerate(request.lora):
        scales[place_of(one.adapter, names, model, f"lora[{number}]")] = one.scale
    return replace(request, lora=tuple(Lora(place, scale) for place, scale in enumerate(scales)))


def place_of(adapter: str | int, names: Sequence[str], model: str, where: str) -> int:
    """The place of an adapter that a request names at ``where``.

    Raises:
        InvalidRequest: the model has no such adapter.
    """
    if isinstance(adapter, str):
        named = adapter.removesuffix(".gguf")
        if named in names:
            return names.index(named)
    elif 0 <= adapter < len(names):
        return adapter
    there = ", ".join(f"{name} (id {place})" for place, name in enumerate(names))
    raise InvalidRequest(f"{where}: {model} has no adapter {str(adapter)[:80]!r}; it has {there}", param=where)
