"""How the vectors of a text's tokens become one, as a folder of sentence-transformers says it.

The rule: a step that the engine does not make (another kind of pooling, a layer after it) is refused by name; where
nothing is said, it is the mean, which is what sentence-transformers takes then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from localmodels.artifacts.convert.folder import Folder
from localmodels.core.errors import ModelDamaged, Unsupported

MODULES = "modules.json"

# LLAMA_POOLING_TYPE in llama.h.
NONE, MEAN, CLS, LAST, RANK = range(5)
_MODES: Mapping[str, int] = {"mean": MEAN, "cls": CLS, "lasttoken": LAST}
_FLAG = "pooling_mode_"
_FLAGS: Mapping[str, str] = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken"}
_STEPS = frozenset({"Transformer", "Pooling", "Normalize"})

UNSAID = "the folder does not say how the vectors of its tokens become one; the mean is taken"


class Pooling(Struct, frozen=True):
    """``type`` by llama.cpp's number, and notes on it."""

    type: int
    notes: tuple[str, ...] = ()


def read_pooling(folder: Folder) -> Pooling:
    """What a folder says.

    Raises:
        ModelDamaged: a file is not sound.
        Unsupported: the engine does not do that.
    """
    place = _pooling_place(folder)
    if place is None:
        return Pooling(MEAN, (UNSAID,))
    name = f"{place}/config.json" if place else "config.json"
    found = sorted(_modes(folder.read_object(name)))
    if len(found) != 1 or found[0] not in _MODES:
        raise Unsupported(
            f"{name}: pooling by {' and '.join(found) or 'nothing'}; the engine knows {', '.join(_MODES)}"
        )
    return Pooling(_MODES[found[0]])


def _pooling_place(folder: Folder) -> str | None:
    """The directory of the step that pools; None if no steps are named."""
    if not folder.has(MODULES):
        return None
    steps = folder.read_json(MODULES)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ModelDamaged(f"{MODULES}: must hold a list of objects")
    kinds = {str(step.get("type", "")).rpartition(".")[2]: str(step.get("path", "")) for step in steps}
    unknown = kinds.keys() - _STEPS
    if unknown:
        raise Unsupported(f"{MODULES}: a step of type {min(unknown)!r:.60}, which the engine does not make")
    return kinds.get("Pooling")


def _modes(config: Mapping[str, Any]) -> Iterator[str]:
    mode = config.get("pooling_mode")
    if isinstance(mode, str):
        yield mode
    for name, value in config.items():
        if name.startswith(_FLAG) and value is True:
            short = name.removeprefix(_FLAG)
            yield _FLAGS.get(short, short)
