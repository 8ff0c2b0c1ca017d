"""What a GGUF file is to hold, tensor by tensor, drawn from the tensors of a folder. No weight is read here.

A family says for each tensor of the file which of the folder's it is made of, and the :class:`Drawing` keeps the books:
each must be there and have the shape that the configuration promises, and none may be left over. The rule: what does
not fit is refused by name, before any weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import prod

from msgspec import Struct

from localmodels.artifacts.convert.folder import Tensor
from localmodels.artifacts.convert.safetensors import Stored
from localmodels.artifacts.gguf_write import Plain
from localmodels.core.errors import ModelDamaged, Unsupported

Change = Callable[..., Tensor]
"""From views of the folder's tensors to one array: weights are moved, never computed with."""

Pairs = tuple[tuple[str, Plain], ...]

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


class Part(Struct, frozen=True):
    """Some consecutive weights of a tensor: all of the folder's tensors ``sources``, after ``change``."""

    sources: tuple[str, ...]
    change: Change | None = None


class Made(Struct, frozen=True):
    """A tensor of the file.

    Attributes:
        shape: sizes, the slowest-moving first: a matrix is (rows, columns).
        parts: what it consists of, one after the other in memory.
        shift: what is added to each weight.
        values: the weights themselves, of a tensor that is computed from the configuration and has no parts.
        packed: the weight type that its parts have already, after ``change``; empty for floats.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...] = ()
    shift: float = 0.0
    values: tuple[float, ...] = ()
    packed: str = ""

    @property
    def count(self) -> int:
        """Weights."""
        return prod(self.shape)


class Model(Struct, frozen=True):
    """A model as the engine knows it, but for its vocabulary.

    Attributes:
        architecture: by llama.cpp's name.
        pairs: metadata of the architecture, by whole keys.
        notes: what a user should know, in sentences.
    """

    architecture: str
    pairs: Pairs
    tensors: tuple[Made, ...]
    notes: tuple[str, ...] = ()


class Drawing:
    """The tensors of one file while they are put together.

    Args:
        stored: all of the folder's, by name.
        prefixes: with any of these, names mean the same: ``model.`` or ``language_model.model.``.
    """

    def __init__(self, stored: Mapping[str, Stored], prefixes: Iterable[str] = ()) -> None:
        self._stored: dict[str, Stored] = {}
        for name, tensor in stored.items():
            prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
            short = name.removeprefix(prefix)
            if short in self._stored:
                raise ModelDamaged(f"tensors {self._stored[short].name!r} and {name!r} are the same one")
            self._stored[short] = tensor
        self._left = dict.fromkeys(self._stored)
        self._made: list[Made] = []

    def has(self, source: str) -> bool:
        """Is there such a tensor in the folder?"""
        return source in self._stored

    def shape(self, source: str) -> tuple[int, ...]:
        """Of a tensor of the folder.

        Raises:
            ModelDamaged: it is missing.
        """
        return self._found(source).shape

    def add(
        self,
        name: str,
        source: str,
        *shape: int,
        change: Change | None = None,
        shift: float = 0.0,
        optional: bool = False,
        stored: tuple[int, ...] | None = None,
    ) -> None:
        """A tensor that is one of the folder's.

        Args:
            name: in the file.
            source: in the folder.
            shape: of the one in the file.
            change: moves its weights.
            shift: is added to each weight.
            optional: it need not be there.
            stored: shape of the one in the folder, if ``change`` makes another of it.

        Raises:
            ModelDamaged: it is missing, or has another shape.
            Unsupported: it does not hold floats.
        """
        if optional and source not in self._stored:
            return
        self._made.append(Made(name, shape, (Part((self.take(source, *(stored or shape)),), change),), shift))

    def stack(self, name: str, sources: Iterable[str], *shape: int, change: Change | None = None) -> None:
        """A tensor that is several of the folder's, one upon the other; ``shape`` is that of each.

        Raises:
            ModelDamaged: as :meth:`add`.
            Unsupported: as :meth:`add`.
        """
        parts = tuple(Part((self.take(source, *shape),), change) for source in sources)
        self._made.append(Made(name, (len(parts), *shape), parts))

    def put(self, made: Made) -> None:
        """A tensor whose parts were taken by :meth:`take`, or that has none."""
        self._made.append(made)

    def take(self, source: str, *shape: int, dtypes: frozenset[str] = FLOATS) -> str:
        """The whole name of a tensor of the folder, which must be of this shape and one of these types.

        Raises:
            ModelDamaged: it is missing, or has another shape.
            Unsupported: it is of another type.
        """
        found = self._found(source)
        if found.shape != shape:
            raise ModelDamaged(
                f"tensor {found.name!r} has the shape {list(found.shape)}, by config.json it must be {list(shape)}"
            )
        if found.dtype not in dtypes:
            raise Unsupported(
                f"tensor {found.name!r} is of type {found.dtype}, where {', '.join(sorted(dtypes))} can be converted"
            )
        self._left.pop(source, None)
        return found.name

    def drop(self, pattern: str) -> tuple[str, ...]:
        """Leaves out the tensors whose names match, all of the name; answers with them."""
        dropped = tuple(name for name in self._left if re.fullmatch(pattern, name))
        for name in dropped:
            del self._left[name]
        return dropped

    def finish(self) -> tuple[Made, ...]:
        """All tensors of the file.

        Raises:
            Unsupported: the folder has tensors that nobody asked for; names them.
        """
        if self._left:
            left = sorted(self._stored[name].name for name in self._left)
            raise Unsupported(
                f"{len(left)} tensors of the folder have no place in such a model: {', '.join(left[:5])}"
                f"{' and more' if len(left) > 5 else ''}"
            )
        return tuple(self._made)

    def _found(self, source: str) -> Stored:
        found = self._stored.get(source)
        if found is None:
            raise ModelDamaged(f"tensor {source!r} is missing in the folder")
        return found
