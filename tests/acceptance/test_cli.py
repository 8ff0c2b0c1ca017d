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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import pytest
from tests.hostile_folders.bases import write_adapted
from tests.weight_folders import write_folder

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
        assert first.stdout.endswith("\n")  # a random model may say nothing that can be seen
        second = place("run", "tiny", "Hi", LOCALMODELS_LISTEN=address)
        assert (second.returncode, second.stderr) == (0, "")
        assert place("ps", LOCALMODELS_LISTEN=address).stdout.count("\n") == 2
    finally:
        os.kill(pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a training run left a folder, with an adapter for it beside."""
    root = tmp_path_factory.mktemp("training")
    write_folder(root / "tuned", max_position_embeddings=4096)
    (root / "tuned" / "training_args.bin").write_bytes(b"pickle")
    write_adapted(root / "both")
    (root / "both" / "adapter").rename(root / "style")
    return root


def test_a_folder_is_deployed_asked_for_and_taken_away(served: Place, tuned: Path) -> None:
    done = served("deploy", str(tuned / "tuned"), "mine", "-q", "Q8_0", "--system", "Be brief.", "-p", "num_predict=4")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "not sent, since no model needs it: training_args.bin"
    assert lines[-1] == "'mine' is ready; try: localmodels run mine"
    assert any(re.match(r"uploading tuned\.tar 100% of ", line) for line in lines)
    assert lines.index("Verify model") < lines.index("Success create model")
    assert served("run", "mine", "Hello").returncode == 0
    assert re.search(r"quantization +Q8_0", served("show", "mine").stdout)
    (artifact,) = served.json("artifacts")
    assert (artifact["name"], artifact["kind"], artifact["architecture"]) == ("tuned", "model", "LlamaForCausalLM")
    again = served("deploy", "tuned", "again", "--uploaded")
    assert again.returncode == 0, again.stderr
    assert "uploading" not in again.stderr
    style = served("deploy", str(tuned / "style"), "styled", "--base", "again")
    assert style.returncode == 0, style.stderr
    assert "styled:latest" in [model["name"] for model in served.json("list")]
    rows = served.json("tasks")
    assert [(row["kind"], row["subject"], row["state"]) for row in rows] == [
        ("deploy", "styled", "succeeded"), ("create", "again", "succeeded"), ("deploy", "mine", "succeeded"),
    ]  # fmt: skip
    told = served("tasks", "follow", rows[1]["id"][:8], "--json")
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert (told.returncode, events[-1]["ratio"], events[-1]["action"]) == (0, 1.0, "Success create model")
    assert served("artifacts", "rm", "tuned", "style").stderr == "deleted 'tuned'\ndeleted 'style'\n"
    assert served.json("artifacts") == []
    assert served("rm", "mine", "again", "styled").returncode == 0
    for row in served.json("tasks"):
        assert served("tasks", "cancel", row["id"]).stderr.startswith(f"forgot the {row['kind']} of ")
    assert served.json("tasks") == []


def test_a_program_gets_every_event_of_a_deployment(served: Place, tuned: Path) -> None:
    done = served("deploy", str(tuned / "tuned"), "mine", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert {tuple(event) for event in events} == {("number", "action", "ratio", "details", "status")}
    assert [event["action"] for event in events if event["number"] < 0].count("Upload.") > 0
    assert [event["ratio"] for event in events] == sorted(event["ratio"] for event in events)
    assert events[-1]["details"]["model_name_on_ollama"] == "mine"


def test_what_cannot_be_deployed_is_one_sentence_and_nothing_is_left(served: Place, tuned: Path) -> None:
    served("artifacts", "rm", *(row["name"] for row in served.json("artifacts")), "nobody")
    bad = tuned / "bad"
    write_folder(bad, architectures=["ZebraForCausalLM"])
    before = [model["name"] for model in served.json("list")]
    done = served("deploy", str(bad), "broken")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"^Error: .*ZebraForCausalLM", done.stderr.splitlines()[-1]), done.stderr
    task = served.json("tasks")[0]
    assert (task["state"], "ZebraForCausalLM" in task["failure"]["message"]) == ("failed", True)
    followed = served("tasks", "follow", task["id"])
    assert (followed.returncode, followed.stderr.splitlines()[-1]) == (1, done.stderr.splitlines()[-1])
    again = served("tasks", "retry", task["id"])
    assert (again.returncode, again.stderr.splitlines()[-1]) == (1, done.stderr.splitlines()[-1])
    assert "Extract model" not in again.stderr  # what had come is not sent or unpacked again
    assert "has been repeated" in served("tasks", "retry", task["id"]).stderr
    (tuned / "a b.gguf").write_bytes(b"GGUF" + bytes(30_000_000))
    refused = served("artifacts", "upload", str(tuned / "a b.gguf"))
    assert (refused.returncode, "cannot be the name of an artifact" in refused.stderr) == (1, True), refused.stderr
    assert served("deploy", "nothing-of-this-name", "broken").returncode == 1
    assert [model["name"] for model in served.json("list")] == before


def test_ctrl_c_ends_the_watching_and_not_the_deployment(served: Place, tuned: Path) -> None:
    with Terminal("deploy", str(tuned / "tuned"), "kept", environ=served.environ) as terminal:
        seen = terminal.until("Start save model")
        terminal.send(b"\x03")
        assert "the server goes on with it" in seen + terminal.rest()
        assert terminal.wait() == 130
    task = next(row for row in served.json("tasks") if row["subject"] == "kept")
    assert served("tasks", "follow", task["id"]).returncode == 0
    assert "kept:latest" in [model["name"] for model in served.json("list")]


def test_a_folder_is_converted_without_a_server(place: Place, tuned: Path, tmp_path: Path) -> None:
    file = tmp_path / "tuned.gguf"
    done = place("convert", str(tuned / "tuned"), "-q", "q4_0", "-o", str(file))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{re.escape(str(file))}  Q4_0  \d+ KB\n", done.stdout)
    assert file.read_bytes()[:4] == b"GGUF"
    refused = place("convert", str(tmp_path), "-o", str(file))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.gguf"]


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

    def rest(self) -> str:
        """What comes until the program ends."""
        seen = b""
        with suppress(OSError):  # of a terminal that nobody writes to any more
            while data := os.read(self._terminal, 4096):
                seen += data
        return seen.decode(errors="replace")

    def wait(self) -> int:
        """The exit code."""
        self._ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
