"""How a runner lives, whichever engine it starts: configuration in, rights given up, model loaded, one report out.

Standard input brings one :class:`~localmodels.engine.command.RunnerConfig` and then stays open for as long as somebody
wants this process; when it ends, so does the process. Standard output carries one JSON line, :class:`Report`;
everything the engine has to say goes to standard error. Neither the server nor anything that holds a secret is imported
here: a file that takes over the parser finds nothing (threat V-37).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

import msgspec
from msgspec import Struct

from localmodels.engine import confine
from localmodels.engine.command import RunnerConfig, read_config

PR_SET_PDEATHSIG = 1


class Report(Struct, frozen=True, omit_defaults=True):
    """What a runner tells once: that it is ready and behind which layers, or why not."""

    ready: bool
    layers: tuple[confine.Layer, ...] = ()
    reason: str = ""


def live(start: Callable[[RunnerConfig], object]) -> int:
    """Runs until standard input ends.

    Args:
        start: loads the model and returns what must be kept alive; raises ``RuntimeError`` or ``OSError`` when it
            cannot.

    Returns:
        Exit status: 1 when the model could not be loaded. After a good life the process ends here.
    """
    die_with_parent()
    report_to = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # llama.cpp prints to standard output here and there
    config = read_config(sys.stdin.buffer.readline())
    layers = confine.apply(confine.runner_policy(config))
    try:
        kept = start(config)
    except (RuntimeError, OSError) as error:
        report_to.write(msgspec.json.encode(Report(ready=False, layers=layers, reason=str(error))) + b"\n")
        return 1
    report_to.write(msgspec.json.encode(Report(ready=True, layers=layers)) + b"\n")
    sys.stdin.buffer.read()
    # llama.cpp's own teardown can hang behind a busy slot (llama.cpp #27604); the kernel frees everything faster.
    os._exit(0 if kept else 1)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends (Linux; elsewhere the end of input must do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":  # a runner without a model: tells which layers hold on this machine
    sys.exit(live(lambda _config: "nothing"))
