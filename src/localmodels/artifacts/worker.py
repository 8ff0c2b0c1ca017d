"""A child that makes a file of another, seen from outside: started, read from, killed.

The rule: what becomes of the child becomes a result or an error of ours, and nothing is left of it either way. It has
neither our environment nor a file that it could write to.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Self

import msgspec
from msgspec import Struct

from localmodels.core.errors import EngineError, InvalidRequest, LocalModelsError, ModelDamaged, TooLarge, Unsupported

INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
CHUNK = 2**20
_SET_PIPE_SIZE = 1031  # linux/fcntl.h: F_SETPIPE_SZ
_LAST_WORDS = 20  # lines
_LONGEST_LINE = 4096  # bytes
_LONGEST_REASON = 600
_REFUSALS = (ModelDamaged, Unsupported, InvalidRequest, TooLarge)
_ERRORS: dict[str, type[LocalModelsError]] = {kind.code: kind for kind in _REFUSALS}


class Refusal(Struct, frozen=True):
    """Why there is no file, as the child's last words: a JSON line.

    Attributes:
        code: that of the error's class.
        param: the field of the job that is at fault, or may help.
    """

    refused: str
    code: str
    param: str | None = None


class Worker:
    """One job in a child process; a context manager that ends the child.

    Args:
        job: what is to be done; the child reads it as one JSON line from standard input, which then stays open for as
            long as somebody wants the result.
        module: what the child runs.
        doing: for errors, what it does: ``quantizes``.

    Raises:
        EngineError: it could not be started.
    """

    def __init__(self, job: Struct, *, module: str, doing: str) -> None:
        self._doing = doing
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment["GGML_NO_BACKTRACE"] = "1"  # an abort would spawn gdb otherwise
        environment["OPENBLAS_NUM_THREADS"] = "1"  # NumPy would set memory aside for each, and nobody multiplies
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"could not start a process that {doing}: {error.strerror}") from error
        self._stdin, self._stdout, stderr = _pipes(self._child)
        self._said: deque[bytes] = deque(maxlen=_LAST_WORDS)
        self._listener = threading.Thread(target=self._listen, args=(stderr,), daemon=True)
        self._listener.start()
        with suppress(OSError):  # elsewhere than on Linux there is no such thing, and a user may have his pipes full
            fcntl.fcntl(self._stdout.fileno(), _SET_PIPE_SIZE, CHUNK)
        with suppress(BrokenPipeError):  # it is dead already; its end says why
            self._stdin.write(msgspec.json.encode(job) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def pieces(self) -> Iterator[bytes]:
        """The new file as it comes; waits for it.

        Raises:
            ModelDamaged: the old file is.
            Unsupported: it cannot become what was asked for.
            InvalidRequest: the job makes no sense.
            EngineError: the child died.
        """
        while data := self._read():
            yield data
        self._expect_success()

    def _read(self) -> bytes:
        return os.read(self._stdout.fileno(), CHUNK)

    def _expect_success(self) -> None:
        status = self._child.wait()
        self._listener.join()
        if status:
            raise self._failure(status)

    def kill(self) -> None:
        """Ends the child now; from any thread. Whoever waits for a piece of it gets an error."""
        with suppress(ProcessLookupError):
            self._child.kill()

    def close(self) -> None:
        """Ends the child, and waits until it has ended."""
        self.kill()
        self._child.wait()
        self._listener.join()
        for pipe in (self._stdin, self._stdout):
            pipe.close()

    def _listen(self, stderr: IO[bytes]) -> None:
        """Reads for as long as it talks: a full pipe would stop the child."""
        with open(stderr.fileno(), "rb", closefd=False) as lines, stderr:
            for line in iter(lambda: lines.readline(_LONGEST_LINE), b""):
                self._said.append(line)

    def _failure(self, status: int) -> LocalModelsError:
        for line in self._said:
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                refusal = msgspec.json.decode(line, type=Refusal)
                kind = _ERRORS.get(refusal.code, EngineError)
                return kind(refusal.refused[:_LONGEST_REASON], param=refusal.param)
        words = self._said[-1].decode(errors="replace").strip()[:_LONGEST_REASON] if self._said else "it said nothing"
        return EngineError(f"the process that {self._doing} ended with {_told(status)}: {words}")


def _told(status: int) -> str:
    """``status 1`` or ``signal SIGKILL``."""
    with suppress(ValueError):
        return f"status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise ValueError("the child was started without pipes")
    return child.stdin, child.stdout, child.stderr
