"""The program as its user meets it: a server in a process, verbs in others, a chat on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "localmodels"]
PATIENCE = 60  # seconds; for machines that do much else


@dataclass
class Place:
    """A home with one model, and the environment in which verbs run."""

    home: Path
    environ: dict[str, str]

    def __call__(self, *words: str, piped: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words],
            input=piped,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def json(self, *words: str) -> Any:
        done = self(*words, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("cli")
    gguf = root / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "tools" / "random_model.py", gguf], check=True, stdout=subprocess.DEVNULL)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOCALMODELS_", "OLLAMA_"))}
    ours = {"LOCALMODELS_HOME": str(root / "home"), "LOCALMODELS_MODEL": f"tiny={gguf}", "TERM": "dumb"}
    return Place(root / "home", {**kept, **ours})


@pytest.fixture(scope="module")
def served(place: Place) -> Iterator[Place]:
    command = [*PROGRAM, "serve", "--json", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, env=place.environ, stdout=subprocess.PIPE, text=True) as server:
        url = ready(server.stdout)["url"]
        yield Place(place.home, {**place.environ, "LOCALMODELS_HOST": url})
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


def ready(pipe: IO[str] | None) -> Any:
    """The line with which a server says that it answers."""
    assert pipe is not None
    return json.loads(pipe.readline())


def test_the_model_is_listed_shown_run_and_stopped(served: Place) -> None:
    assert "tiny:latest" in [model["name"] for model in served.json("list")]
    assert re.search(r"^tiny:latest +[0-9a-f]{12} +\d+ KB +", served("ls").stdout, re.MULTILINE)
    assert re.search(r"^  architecture +llama$", served("show", "tiny").stdout, re.MULTILINE)
    answer = served.json("run", "tiny", "Hi")
    assert answer["done"]["usage"]["completion_tokens"] > 0
    (running,) = served.json("ps")
    assert (running["model"]["name"], running["status"]) == ("tiny:latest", "running")
    assert served("stop", "tiny").returncode == 0
    assert served.json("ps") == []


def test_an_answer_is_the_same_by_words_and_by_pipe(served: Place) -> None:
    by_words = served("run", "tiny", "Hi", "--verbose")
    by_pipe = served("run", "tiny", piped="Hi")
    assert by_words.returncode == by_pipe.returncode == 0
    assert by_words.stdout.endswith("\n")
    assert by_words.stdout.strip()
    assert re.search(r"^eval count: +\d+ tokens$", by_words.stderr, re.MULTILINE)
    assert by_pipe.stderr == ""


def test_what_goes_wrong_is_one_line(served: Place) -> None:
    done = served("run", "--no-pull", "nobody", "Hi")
    assert (done.returncode, done.stdout.strip()) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "nobody" in done.stderr


def test_version_knows_both_sides(served: Place) -> None:
    versions = served.json("version")
    assert versions["version"] == versions["server"]


def test_a_pipe_that_is_closed_early_is_no_traceback(served: Place) -> None:
    with subprocess.Popen(
        [*PROGRAM, "list"], env=served.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as verb:
        assert verb.stdout
        assert verb.stderr
        verb.stdout.close()
        assert verb.stderr.read() == b""


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_traceback(served: Place, stream: str) -> None:
    shell = shlex.join([*PROGRAM, "run", "tiny", "Hi"]) + f" {stream}"
    done = subprocess.run(
        ["sh", "-c", shell], check=False, env=served.environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_said_in_one_line(served: Place) -> None:
    shell = shlex.join([*PROGRAM, "list"]) + " >/dev/full"
    done = subprocess.run(
        ["sh", "-c", shell], check=False, env=served.environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_the_network_is_not_served_without_a_key(place: Place, tmp_path: Path) -> None:
    done = place("serve", "--home", str(tmp_path), "--listen", "0.0.0.0:0")
    assert done.returncode == 1
    assert "--insecure-no-auth" in done.stderr


def test_a_port_that_was_asked_for_and_is_taken_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = place("serve", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr


def test_a_chat_on_a_terminal(served: Place) -> None:
    with Terminal("run", "tiny", environ=served.environ) as terminal:
        terminal.until(">>> ")
        terminal.type("/set parameter num_predict 5")
        assert "num_predict is 5." in terminal.until(">>> ")
        terminal.type("Hi")
        assert len(terminal.until(">>> ").strip()) > len("Hi")
        terminal.type("/show system")
        assert "The model has no system." in terminal.until(">>> ")
        # And Enter: Python's line editor does not notice a Ctrl-C between two of its looks at the keyboard until a line
        # ends (readline_until_enter_or_signal asks only an interrupted select).
        terminal.send(b"\x03\n")
        assert "Ctrl-D or /bye leaves." in terminal.until(">>> ")
        terminal.send(b"\x04")
        assert terminal.wait() == 0
    assert "Hi" in (served.home / "history").read_text()


def test_ctrl_c_stops_an_answer_and_not_the_chat(served: Place) -> None:
    with Terminal("run", "tiny", environ=served.environ) as terminal:
        terminal.until(">>> ")
        terminal.type("Tell me a long story")
        terminal.until("\n")
        terminal.read()
        terminal.send(b"\x03")
        assert "leaves" not in terminal.until(">>> ")
        terminal.type("/bye")
        assert terminal.wait() == 0


def test_run_starts_a_server_that_stays(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    first = place("run", "tiny", "Hi", LOCALMODELS_LISTEN=address)
    pid = int(re.findall(r"kill (\d+)", first.stderr)[0])
    try:
        assert first.returncode == 0
        assert first.stdout.strip()
        second = place("run", "tiny", "Hi", LOCALMODELS_LISTEN=address)
        assert (second.returncode, second.stderr) == (0, "")
        assert place("ps", LOCALMODELS_LISTEN=address).stdout.count("\n") == 2
    finally:
        os.kill(pid, signal.SIGTERM)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *words: str, environ: dict[str, str]) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as a terminal does; whoever runs us may ignore it
            os.execve(PROGRAM[0], [*PROGRAM, *words], environ)  # noqa: S606 - no shell is meant
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._ended:
            os.kill(self._pid, signal.SIGKILL)
            self.wait()
        os.close(self._terminal)

    def send(self, data: bytes) -> None:
        os.write(self._terminal, data)

    def type(self, line: str) -> None:
        """Types a line and waits for its echo, so that what is read next is what follows."""
        self.send(line.encode() + b"\n")
        self.until(line)

    def read(self) -> str:
        """The next character."""
        readable, _, _ = select.select([self._terminal], [], [], PATIENCE)
        assert readable, "the program is silent"
        return os.read(self._terminal, 1).decode(errors="replace")

    def until(self, text: str) -> str:
        """What comes, as far as ``text``."""
        seen = ""
        while not seen.endswith(text):
            seen += self.read()
        return seen

    def wait(self) -> int:
        """The exit code."""
        self._ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
