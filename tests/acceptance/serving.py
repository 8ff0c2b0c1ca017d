"""Our server in a process of its own, as its user starts it, and what a stranger may ask of it.

The one rule: a server that a test starts does not outlive the test. The kernel kills it when the test process dies
(where the kernel can), :func:`serve` ends it by its pid, and what it started has to be gone by then too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx2
import psutil

T = TypeVar("T")

PATIENCE = 60  # seconds; for machines that do much else
GONE = 2.0  # seconds within which runners follow their server (contract)

# PR_SET_PDEATHSIG is 1 in prctl(2). A program that does it and becomes the server, since nothing may be run between
# fork and exec in a process that has threads.
_LEASHED = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""


@dataclass(frozen=True)
class Served:
    """A server that answers; ``admin_key`` is the one that a new home tells once."""

    url: str
    pid: int
    process: subprocess.Popen[str]
    admin_key: str = ""

    def get(self, path: str, **arguments: Any) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=PATIENCE, **arguments)

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, json=body, timeout=PATIENCE)

    def running(self) -> dict[str, dict[str, Any]]:
        """What ``/api/ps`` says, by name without tag."""
        return {row["name"].removesuffix(":latest"): row for row in self.get("/api/ps").json()["models"]}

    def runners(self) -> list[psutil.Process]:
        """The children, and theirs."""
        children: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        return children

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def unload(self, model: str) -> None:
        """Takes a model out of memory, and waits until it is."""
        self.post("/api/generate", model=model, keep_alive=0).raise_for_status()
        eventually(lambda: model not in self.running(), f"{model} is unloaded")


@contextmanager
def serve(
    *flags: str,
    home: Path,
    listen: str | None = "127.0.0.1:0",
    log: Path | None = None,
    environ: Mapping[str, str] | None = None,
    program: Sequence[str] = ("localmodels",),
) -> Iterator[Served]:
    """A server with these flags; asserts at the end that it leaves in order and leaves nobody behind.

    Its log goes to the file ``log``, or to where the test's goes; ``environ`` is added to its environment; ``program``
    is a module that does as ours does, and what comes before its verb.
    """
    listening = ["--listen", listen] if listen else []
    command = [sys.executable, "-c", _LEASHED, *program, "serve", "--json", *listening, "--home", str(home), *flags]
    with log.open("w") if log else nullcontext() as errors:
        process = subprocess.Popen(
            command,
            env={**environment(), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        served = Served(ready["url"], process.pid, process, ready.get("admin_key", ""))
        yield served
        if process.poll() is None:
            end(served)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


def end(served: Served) -> None:
    """Asks it to end, and looks whether it does so."""
    runners = served.runners()
    served.signal(signal.SIGTERM)
    assert served.process.wait(PATIENCE) == 0
    assert gone(runners, within=GONE)


def environment() -> dict[str, str]:
    """Ours, without what could configure a server or a client."""
    ours = ("LOCALMODELS_", "OLLAMA_", "OPENAI_", "HTTP_PROXY", "http_proxy")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def gone(processes: list[psutil.Process], *, within: float) -> bool:
    """Have they all ended in time? One that only waits for its foster parent to ask how it ended has."""
    try:
        eventually(lambda: not any(map(lives, processes)), "the processes are gone", within=within)
    except AssertionError:
        return False
    return True


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def eventually(true: Callable[[], T], what: str, *, within: float = PATIENCE) -> T:
    """Asks again and again until the answer is true, and returns it; fails when it is not in time."""
    deadline = monotonic() + within
    while not (answer := true()):
        assert monotonic() < deadline, f"not within {within:g} s: {what}"
        sleep(0.005)
    return answer


def verdicts_of(command: list[str]) -> dict[str, str]:
    """What a judge that is a program says: by the name of the check why it failed, or an empty text."""
    judged = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert judged.returncode == 0, judged.stderr
    verdicts: dict[str, str] = json.loads(judged.stdout.splitlines()[-1])
    return verdicts
