"""What happens to streams when a runner, the server or the client goes away, and that nobody is left behind.

The clock is asked only where the contract names a time; everything else waits for what it wants to see.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.acceptance.serving import GONE, PATIENCE, Served, eventually, gone, lives, serve
from tools.random_model import TINY, Shape, write_random_model

REPEATS = 10
SOON = 1.0  # seconds within which a client that left has freed its place (contract)
# Large enough that reading a long prompt and writing to the end of the context take seconds on any processor.
SLOW = Shape(
    width=512, layers=8, heads=8, kv_heads=2, head_width=64, feed_forward=2048, context=16_384, vocab=TINY.vocab
)
PROMPT_WORDS = 2_500  # seconds of reading
REST = 0.05  # seconds without computing: several ticks of the processor's clock
WORK = 0.1  # seconds of computing: more than reading one word takes, far less than reading so many


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("models")
    return {
        "slow": write_random_model(directory / "slow.gguf", shape=SLOW, type="q8_0", end_bias=-100),
        "quick": write_random_model(directory / "quick.gguf", seed=1, end_bias=-100),
    }


@contextmanager
def started(files: dict[str, Path], home: Path, *flags: str) -> Iterator[Served]:
    models = [word for name, file in files.items() for word in ("--model", f"{name}={file}")]
    with serve(*models, "--context-length", "16384", *flags, home=home) as served:
        yield served


@pytest.fixture(scope="module")
def single(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose models answer one request at a time."""
    with started(files, tmp_path_factory.mktemp("home"), "--num-parallel", "1") as served:
        yield served


@contextmanager
def asking(served: Served, model: str = "slow", *, limit: int = -1) -> Iterator[httpx2.Response]:
    """A streamed answer, as far as its head; leaving the block is leaving the server."""
    body = question(model, 1, "", limit, stream=True)
    with httpx2.stream("POST", f"{served.url}/api/chat", json=body, timeout=PATIENCE) as response:
        assert response.status_code == 200
        yield response


def question(model: str, words: int, mark: object, limit: int, *, stream: bool) -> dict[str, Any]:
    """``mark`` comes first in the prompt, so that no earlier one's cache helps."""
    content = f"{mark} " + "word " * words
    options = {"num_predict": limit}
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": content}], "options": options}


@contextmanager
def visit(served: Served, body: dict[str, Any]) -> Iterator[None]:
    """A request by somebody who never reads the answer; leaving the block closes his connection."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    data = json.dumps(body).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        yield


def place(served: Served, model: str = "slow") -> tuple[str, int, int]:
    row = served.running().get(model, {"status": "", "busy": 0, "queued": 0})
    return row["status"], row["busy"], row["queued"]


def assert_free_soon(served: Served) -> None:
    eventually(lambda: place(served)[1:] == (0, 0), "the place is free", within=SOON)


def assert_engine_rests_soon(served: Served) -> None:
    """Our books are one thing; the engine itself must stop computing for somebody who is not there.

    Measured in the time that it computes, which a machine that does other things as well does not change.
    """
    runner = psutil.Process(served.running()["slow"]["pid"])
    left = runner.cpu_times().user

    def rests() -> bool:
        before = runner.cpu_times().user
        time.sleep(REST)
        return bool(runner.cpu_times().user == before)

    eventually(rests, "the engine rests")
    spent = runner.cpu_times().user - left
    assert spent <= SOON * (psutil.cpu_count() or 1), f"the engine computed for {spent:.2f} s for nobody"


def at_work(served: Served) -> None:
    """Waits until the engine computes for the one request there is: a whole answer shows nothing until it is there."""
    eventually(lambda: place(served)[1] == 1, "the place is taken")
    runner = psutil.Process(served.running()["slow"]["pid"])
    idle = runner.cpu_times().user
    eventually(lambda: runner.cpu_times().user >= idle + WORK, "the engine computes")


def answers(served: Served, model: str = "slow") -> bool:
    response = served.post("/api/chat", **question(model, 1, "", 2, stream=False))
    return response.status_code == 200 and response.json()["eval_count"] == 2


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_who_leaves_the_queue_frees_his_place(single: Served, *, stream: bool) -> None:
    with visit(single, question("slow", 1, "holder", -1, stream=True)):
        eventually(lambda: place(single)[1] == 1, "the first has the place")
        for i in range(REPEATS):
            with visit(single, question("slow", 1, i, -1, stream=stream)):
                eventually(lambda: place(single)[2] == 1, "the second waits")
            eventually(lambda: place(single)[1:] == (1, 0), "the queue is empty", within=SOON)
    assert_free_soon(single)
    assert answers(single)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_who_leaves_during_the_load_frees_his_place(single: Served, *, stream: bool) -> None:
    for i in range(REPEATS):
        single.unload("slow")
        with visit(single, question("slow", 1, i, -1, stream=stream)):
            eventually(lambda: place(single) == ("loading", 0, 1), "he waits for the load")
        assert_free_soon(single)
    assert answers(single)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_who_leaves_while_his_prompt_is_read_frees_his_place(single: Served, *, stream: bool) -> None:
    assert answers(single)
    for i in range(REPEATS):
        with visit(single, question("slow", PROMPT_WORDS, f"{stream} {i}", -1, stream=stream)):
            at_work(single)
        assert_free_soon(single)
        assert_engine_rests_soon(single)
    assert answers(single)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_who_leaves_while_his_answer_is_written_frees_his_place(single: Served, *, stream: bool) -> None:
    assert answers(single)
    for i in range(REPEATS):
        if stream:
            with asking(single) as response:
                assert json.loads(next(response.iter_lines()))["done"] is False
        else:
            with visit(single, question("slow", 1, i, -1, stream=False)):
                at_work(single)
        assert_free_soon(single)
        assert_engine_rests_soon(single)
    assert answers(single)


def test_a_killed_runner_costs_its_own_streams_one_error_and_comes_back(files: dict[str, Path], tmp_path: Path) -> None:
    with started(files, tmp_path) as served, ExitStack() as stack:
        doomed, other = (stack.enter_context(asking(served, model)) for model in ("slow", "quick"))
        streams = doomed.iter_lines(), other.iter_lines()
        assert [json.loads(next(stream))["done"] for stream in streams] == [False, False]
        pid = served.running()["slow"]["pid"]
        os.kill(pid, signal.SIGKILL)
        rest = [json.loads(line) for line in streams[0]]
        assert [line for line in rest if "error" in line] == rest[-1:]
        assert "SIGKILL" in rest[-1]["error"]
        assert not any(line.get("done") for line in rest)
        assert json.loads(next(streams[1]))["done"] is False
        assert answers(served)
        assert served.running()["slow"]["pid"] != pid


def test_a_killed_runner_makes_a_whole_answer_an_error(files: dict[str, Path], tmp_path: Path) -> None:
    with started(files, tmp_path) as served, ExitStack() as stack:
        assert answers(served)
        before = eventually(lambda: served.running()["slow"]["pid"], "there is a runner")
        body = question("slow", 1, "", -1, stream=False)
        client = stack.enter_context(httpx2.Client(timeout=PATIENCE))
        with in_background(lambda: client.post(f"{served.url}/api/chat", json=body)) as answer:
            eventually(lambda: place(served)[1] == 1, "the place is taken")
            os.kill(before, signal.SIGKILL)
            response = answer()
        assert response.status_code == 500
        assert "SIGKILL" in response.json()["error"]


def test_runners_of_a_killed_server_follow_it(files: dict[str, Path], tmp_path: Path) -> None:
    with started(files, tmp_path) as served:
        assert answers(served)
        assert answers(served, "quick")
        runners = served.runners()
        assert len(runners) == 2
        assert all(map(lives, runners))
        served.signal(signal.SIGKILL)
        assert served.process.wait(PATIENCE) == -signal.SIGKILL
        assert gone(runners, within=GONE)


def test_sigterm_lets_a_stream_end_and_then_ends(files: dict[str, Path], tmp_path: Path) -> None:
    with started(files, tmp_path) as served:
        with asking(served, limit=60) as response:
            stream = response.iter_lines()
            assert json.loads(next(stream))["done"] is False
            runners = served.runners()
            served.signal(signal.SIGTERM)
            rest = [json.loads(line) for line in stream]
        assert (rest[-1]["done"], rest[-1]["done_reason"]) == (True, "length")
        assert served.process.wait(PATIENCE) == 0
        assert gone(runners, within=GONE)


def test_a_server_that_is_idle_has_no_children_after_its_end(files: dict[str, Path], tmp_path: Path) -> None:
    with started(files, tmp_path) as served:
        assert answers(served, "quick")
        children = psutil.Process(served.pid).children(recursive=True)
    assert gone(children, within=0.1)


def test_a_default_port_that_is_taken_is_left_out(tmp_path: Path) -> None:
    with ExitStack() as stack:
        held(stack, 8000)
        if not held(ports := ExitStack(), 11434):
            pytest.skip("somebody else has port 11434")
        ports.close()
        served = stack.enter_context(serve(home=tmp_path, listen=None))
        assert served.url.endswith(":11434")
        assert served.get("/health").status_code == 200


def held(stack: ExitStack, port: int) -> bool:
    """Takes a port, unless somebody else has it."""
    try:
        stack.enter_context(socket.create_server(("127.0.0.1", port)))
    except OSError:
        return False
    return True


@contextmanager
def in_background(work: Callable[[], httpx2.Response]) -> Iterator[Callable[[], httpx2.Response]]:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield lambda: future.result(PATIENCE)
