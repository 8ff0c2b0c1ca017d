"""The work itself: reads weights, turns them into their new types with all threads, gives them out in order.

A tensor is taken as one long row of blocks, since every type is computed block by block; so a stretch is the unit of
work, however wide the rows are. The rule: memory is bounded by the number of threads, never by the model. The file is
read, not mapped: one that is cut meanwhile would kill the process instead of giving an error.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from msgspec import Struct

from localmodels.artifacts.gguf_header import TensorInfo
from localmodels.artifacts.quantize.ggml import Ggml
from localmodels.artifacts.quantize.plan import Placed, Plan
from localmodels.core.errors import ModelDamaged
from localmodels.core.spans import Span

# Weights in one job: 2 MiB of a 16-bit model, 5 to 60 ms of work. All blocks divide it.
STRETCH = 2**20
# Weights computed at once: 256 KiB as floats, which stay in a core's own cache between two steps.
STEP = 2**16
CHUNK = 2**20  # bytes of metadata read at a time
WIDEST = 8  # bytes of a weight, at most: of the types that are only ever copied

_FLOAT = 4


class Stretch(Struct, frozen=True):
    """Some weights of a tensor: ``count`` from ``start`` on."""

    tensor: Placed
    start: int
    count: int


class Buffer:
    """Memory that C functions can write to."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def view(self, start: int, size: int) -> memoryview:
        """So many bytes of it."""
        return memoryview(self.memory)[start : start + size]


class _Desk(threading.local):
    """What each thread has for itself: weights as they are read, and the same as floats."""

    def __init__(self) -> None:
        self.read = Buffer(STEP * WIDEST)
        self.floats = Buffer(STEP * _FLOAT)


class Work:
    """One file on its way to another type.

    Args:
        path: of the old file.
        plan: made of the same file.
        ggml: does the computing.
        threads: how many compute at once.
    """

    def __init__(self, path: Path, plan: Plan, ggml: Ggml, threads: int) -> None:
        self._path = path
        self._plan = plan
        self._ggml = ggml
        self._threads = threads
        self._desk = _Desk()
        self._spare: SimpleQueue[Buffer] = SimpleQueue()
        self._descriptor = -1

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of the new file in order. A piece is good until the next one is asked for.

        Raises:
            ModelDamaged: weights that are no numbers or infinite, or become so; or the file has changed.
        """
        self._descriptor = _opened(self._path)
        pool = ThreadPoolExecutor(self._threads, "quantize")
        try:
            for part in self._plan.head:
                if isinstance(part, bytes):
                    yield part
                else:
                    yield from self._copied(part)
            yield from self._weights(pool)
        finally:
            pool.shutdown(cancel_futures=True)
            os.close(self._descriptor)

    def _copied(self, span: Span) -> Iterator[bytes]:
        for start in range(span[0], span[1], CHUNK):
            yield self._exactly(start, min(CHUNK, span[1] - start))

    def _exactly(self, start: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, start)
        if len(data) < size:
            raise self._cut()
        return data

    def _weights(self, pool: ThreadPoolExecutor) -> Iterator[bytes | memoryview]:
        """Computed ahead by so much that no thread waits for a piece to be taken, and no more."""
        under_way: deque[tuple[Stretch, Future[Buffer]]] = deque()
        for stretch in stretches(self._plan):
            under_way.append((stretch, pool.submit(self._compute, stretch)))
            if len(under_way) > 2 * self._threads:
                yield from self._finished(*under_way.popleft())
        while under_way:
            yield from self._finished(*under_way.popleft())

    def _finished(self, stretch: Stretch, future: Future[Buffer]) -> Iterator[bytes | memoryview]:
        buffer = future.result()
        form = stretch.tensor.type
        yield buffer.view(0, stretch.count // form.block * form.size)
        self._spare.put(buffer)
        if stretch.start + stretch.count == stretch.tensor.source.count and stretch.tensor.padding:
            yield bytes(stretch.tensor.padding)

    def _compute(self, stretch: Stretch) -> Buffer:
        form = stretch.tensor.type
        try:
            target = self._spare.get_nowait()
        except Empty:
            target = Buffer(STRETCH * WIDEST)
        for start in range(0, stretch.count, STEP):
            count = min(STEP, stretch.count - start)
            self._step(stretch.tensor, stretch.start + start, count, target, start // form.block * form.size)
        size = stretch.count // form.block * form.size
        if not stretch.tensor.is_copied and not self._ggml.is_sound(form, target.address, size):
            name = stretch.tensor.source.name
            raise ModelDamaged(f"{self._path.name}: tensor {name!r} has weights that are too large for {form.name}")
        return target

    def _step(self, tensor: Placed, start: int, count: int, target: Buffer, at: int) -> None:
        """Some weights of a tensor, read, looked at, and written to a place of the target."""
        source = tensor.source
        place = source.offset + start // source.type.block * source.type.size
        size = count // source.type.block * source.type.size
        to, where = (target, at) if tensor.is_copied else (self._desk.read, 0)
        if os.preadv(self._descriptor, [to.view(where, size)], place) < size:
            raise self._cut()
        data = to.address + where
        if not self._ggml.is_sound(source.type, data, size):
            raise self._unsound(source)
        if tensor.is_copied:
            return
        if source.type.name != "F32":
            self._ggml.widen(source.type, data, self._desk.floats.address, count)
            data = self._desk.floats.address
        self._ggml.narrow(tensor.type, data, target.address + at, count)

    def _unsound(self, source: TensorInfo) -> ModelDamaged:
        return ModelDamaged(f"{self._path.name}: tensor {source.name!r} has weights that are infinite or not a number")

    def _cut(self) -> ModelDamaged:
        return ModelDamaged(f"{self._path.name}: became shorter while it was read")


def stretches(plan: Plan) -> Iterator[Stretch]:
    """All weights, in the order of the new file."""
    for tensor in plan.tensors:
        for start in range(0, tensor.source.count, STRETCH):
            yield Stretch(tensor, start, min(STRETCH, tensor.source.count - start))


def _opened(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelDamaged(f"{path.name}: cannot be read ({error.strerror})") from error
    with suppress(AttributeError, OSError):  # macOS has none; it is only a hint
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return descriptor
