"""The work itself: takes weights out of the folder, turns them into their types with all threads, gives them in order.

Weights that lie in order are taken from where the file is mapped; those that are moved are copied first, a part of a
tensor at a time. The rule: memory is bounded by the number of threads and the largest part that is moved, never by the
model; and what was read of the mapped files is given back at once, for it would count as ours.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import local

import numpy as np
from msgspec import Struct

from localmodels.artifacts.convert.drawing import Made, Part
from localmodels.artifacts.convert.folder import Folder, Tensor, widened
from localmodels.artifacts.convert.plan import Placed, Plan
from localmodels.artifacts.gguf_header import WeightType
from localmodels.artifacts.quantize.file_types import weight_type
from localmodels.artifacts.quantize.ggml import Ggml
from localmodels.artifacts.quantize.work import STEP, STRETCH, WIDEST, Buffer
from localmodels.core.errors import ModelDamaged

_FLOAT = 4
_READABLE = frozenset({"F32", "F16", "BF16"})


class Stretch(Struct, frozen=True, eq=False):
    """Some weights of a tensor.

    Attributes:
        weights: as they are stored, one after the other.
        form: of them.
        shift: is added to each.
        source: the folder's tensor that they are of.
        last: the tensor ends with them.
    """

    tensor: Placed
    weights: Tensor
    form: WeightType
    shift: float
    source: str
    last: bool


class _Desk(local):
    """What each thread has for itself: weights as 32-bit floats."""

    def __init__(self) -> None:
        self.floats = Buffer(STEP * _FLOAT)


class Work:
    """One folder on its way to a file.

    Args:
        folder: the plan was made of.
        plan: what comes where.
        ggml: does the computing.
        threads: how many compute at once.
    """

    def __init__(self, folder: Folder, plan: Plan, ggml: Ggml, threads: int) -> None:
        self._folder = folder
        self._plan = plan
        self._ggml = ggml
        self._threads = threads
        self._desk = _Desk()
        self._spare: SimpleQueue[Buffer] = SimpleQueue()

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of the file in order. A piece is good until the next one is asked for.

        Raises:
            ModelDamaged: weights that are no numbers or infinite, or become so; or a file has changed.
        """
        yield self._plan.head
        pool = ThreadPoolExecutor(self._threads, "convert")
        under_way: deque[tuple[Stretch, Future[Buffer | None]]] = deque()
        try:
            for stretch in self._stretches():
                under_way.append((stretch, pool.submit(self._compute, stretch)))
                if len(under_way) > 2 * self._threads:
                    yield from self._finished(*under_way.popleft())
            while under_way:
                yield from self._finished(*under_way.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _stretches(self) -> Iterator[Stretch]:
        for tensor in self._plan.tensors:
            if tensor.made.values:
                values = np.asarray(tensor.made.values, np.float32)
                yield Stretch(tensor, values, weight_type("F32"), 0.0, "", last=True)
            for index, part in enumerate(tensor.made.parts):
                yield from self._of_part(tensor, part, last=index + 1 == len(tensor.made.parts))

    def _of_part(self, tensor: Placed, part: Part, *, last: bool) -> Iterator[Stretch]:
        weights, form = self._weights(tensor.made, part)
        source = part.sources[0] if len(part.sources) == 1 else ""
        step = STRETCH // form.size * form.size if tensor.made.packed else STRETCH
        for start in range(0, len(weights), step):
            piece = weights[start : start + step]
            yield Stretch(tensor, piece, form, tensor.made.shift, source, last=last and start + step >= len(weights))

    def _weights(self, made: Made, part: Part) -> tuple[Tensor, WeightType]:
        """All weights of a part in a row, and their type; of a packed one, bytes."""
        views = [self._folder.tensor(source) for source in part.sources]
        moved = part.change(*views) if part.change else views[0]
        row = np.require(moved, requirements=("C", "A")).reshape(-1)  # ggml wants them in order, and on even addresses
        if made.packed:
            return row, weight_type(made.packed)
        dtype = self._folder.tensors()[part.sources[0]].dtype
        if dtype in _READABLE:
            return row, weight_type(dtype)
        return widened(row, dtype, part.sources[0]), weight_type("F32")

    def _finished(self, stretch: Stretch, future: Future[Buffer | None]) -> Iterator[bytes | memoryview]:
        buffer = future.result()
        if buffer is None:
            yield stretch.weights.view(np.uint8).data
        else:
            form = stretch.tensor.type
            yield buffer.view(0, len(stretch.weights) // form.block * form.size)
            self._spare.put(buffer)
        if stretch.source:
            self._folder.forget(stretch.source, stretch.weights)
        if stretch.last and stretch.tensor.padding:
            yield bytes(stretch.tensor.padding)

    def _compute(self, stretch: Stretch) -> Buffer | None:
        """The weights in their new type; None if they have it already."""
        form, weights = stretch.tensor.type, stretch.weights
        if not self._ggml.is_sound(stretch.form, weights.ctypes.data, weights.nbytes):
            raise _unsound(stretch)
        if stretch.form == form and not stretch.shift:
            return None
        try:
            target = self._spare.get_nowait()
        except Empty:
            target = Buffer(STRETCH * WIDEST)
        for start in range(0, len(weights), STEP):
            count = min(STEP, len(weights) - start)
            floats = self._floats(stretch, start, count)
            self._ggml.narrow(form, floats, target.address + start // form.block * form.size, count)
        if not self._ggml.is_sound(form, target.address, len(weights) // form.block * form.size):
            raise ModelDamaged(f"tensor {_name(stretch)!r} has weights that are too large for {form.name}")
        return target

    def _floats(self, stretch: Stretch, start: int, count: int) -> int:
        """Where so many weights lie as 32-bit floats."""
        form = stretch.form
        address = stretch.weights.ctypes.data + start * form.size
        if form.name == "F32" and not stretch.shift:
            return address
        desk = self._desk.floats
        if form.name == "F32":
            ctypes.memmove(desk.address, address, count * form.size)
        else:
            self._ggml.widen(form, address, desk.address, count)
        if stretch.shift:
            floats = np.frombuffer(desk.memory, np.float32, count)
            floats += np.float32(stretch.shift)
        return desk.address


def _name(stretch: Stretch) -> str:
    return stretch.source or stretch.tensor.made.name


def _unsound(stretch: Stretch) -> ModelDamaged:
    return ModelDamaged(f"tensor {_name(stretch)!r} has weights that are infinite or not a number")
