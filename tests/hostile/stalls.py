"""For developers: who holds the event loop up, and where. ``python -m tests.hostile --stalls`` runs the server so.

``python -m tests.hostile.stalls FILE serve …`` is ``localmodels serve …`` with a thread that asks the loop to do
nothing, again and again, and looks at the stacks of all threads while it does not come to it. Each time becomes one
line of JSON in the file. What holds the interpreter's lock in C shows as the line that called it; what the machine did
instead of us, as a stall with hardly any processor time.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from time import monotonic, process_time, sleep
from types import FrameType

import msgspec
from msgspec import Struct

from localmodels.cli import main as command_line

LONG = 0.03  # seconds after which the loop is held up
EVERY = 0.005  # seconds between two looks at the stacks
REST = 0.01  # seconds between two questions
DEPTH = 14  # innermost frames that are told


class Stall(Struct, frozen=True):
    """A time in which the loop did nothing else.

    Attributes:
        at: when it began, by this machine's monotonic clock.
        took: seconds.
        processor: seconds of processor time that the whole process had meanwhile.
        collected: seconds of it that went into looking for garbage.
        stacks: what was seen how often: the thread's name and its innermost frames, outermost first.
    """

    at: float
    took: float
    processor: float
    collected: float
    stacks: list[tuple[int, str, list[str]]]

    def __str__(self) -> str:
        begun = (
            f"{1e3 * self.took:.0f} ms, {1e3 * self.processor:.0f} of processor, {1e3 * self.collected:.0f} of garbage"
        )
        seen = (f"    {count} x {name}: {' > '.join(frames[-5:])}" for count, name, frames in self.stacks[:3])
        return "\n".join((begun, *seen))


class Watching(threading.Thread):
    """The thread.

    Args:
        file: where its lines go.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(name="stalls", daemon=True)
        self._file = file
        self._main = threading.main_thread()
        self._garbage = 0.0
        self._began = 0.0

    def run(self) -> None:
        """Until the loop is closed."""
        loop = self._loop()
        gc.callbacks.append(self._collecting)
        with self._file.open("ab", buffering=0) as file:
            while not loop.is_closed():
                if (stall := self._asked(loop)) is not None:
                    file.write(msgspec.json.encode(stall) + b"\n")
                sleep(REST)

    def _loop(self) -> asyncio.AbstractEventLoop:
        """The server's, as soon as it runs: the runner that turns it stands on the main thread's stack."""
        while True:
            for frame in frames(sys._current_frames()[self._main.ident or 0]):
                if frame.f_code is asyncio.Runner.run.__code__:
                    runner: asyncio.Runner = frame.f_locals["self"]
                    return runner.get_loop()
            sleep(EVERY)

    def _asked(self, loop: asyncio.AbstractEventLoop) -> Stall | None:
        done = threading.Event()
        at, processor, garbage = monotonic(), process_time(), self._garbage
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:  # it has just been closed
            return None
        if done.wait(LONG):
            return None
        seen: Counter[tuple[str, tuple[str, ...]]] = Counter(self._stacks())
        while not done.wait(EVERY) and not loop.is_closed():
            seen.update(self._stacks())
        stacks = [(count, name, list(told)) for (name, told), count in seen.most_common(8)]
        return Stall(at, monotonic() - at, process_time() - processor, self._garbage - garbage, stacks)

    def _stacks(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            told = tuple(map(line, traceback.extract_stack(frame, DEPTH)))
            if names.get(ident) != self.name and told and not told[-1].startswith(WAITING):
                yield names.get(ident, "?"), told

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = monotonic()
        else:
            self._garbage += monotonic() - self._began


# Where threads of ours stand that have nothing to do.
WAITING = ("threading.py:wait", "thread.py:_worker", "queue.py:", "selectors.py:")


def frames(frame: FrameType | None) -> Iterable[FrameType]:
    """A frame and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def line(at: traceback.FrameSummary) -> str:
    """A line of a stack, short."""
    return f"{Path(at.filename).name}:{at.name}:{at.lineno}"


def read(file: Path) -> list[Stall]:
    """What was written there, the longest first."""
    stalls = [msgspec.json.decode(text, type=Stall) for text in file.read_bytes().splitlines()]
    return sorted(stalls, key=lambda stall: stall.took, reverse=True)


if __name__ == "__main__":
    Watching(Path(sys.argv[1])).start()
    sys.exit(command_line(sys.argv[2:]))
