"""Deployments that somebody leaves, cancels or kills in the middle: what goes on, what stays, what can be repeated."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from tests.acceptance.deploying import (
    Line,
    Story,
    asked,
    digest,
    drafts,
    form,
    halted,
    packed,
    refused,
    sound,
    succeeded,
    told,
    tree,
    write_broad,
    write_model,
)
from tests.acceptance.serving import GONE, PATIENCE, Served, eventually, gone, serve

BOUNDARY = "x-x"
# Seconds within which a task has ended that somebody ends, whatever its child does: less than a child may be silent.
PROMPT = 15


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    servers = '[[servers]]\nname = "far"\nurl = "http://127.0.0.1:9"\nkind = "openai"\nmodels = ["m"]\n'
    (home / "localmodels.toml").write_text(servers)
    with serve(home=home) as served:
        yield served


@pytest.fixture(scope="module")
def broad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(write_broad(tmp_path_factory.mktemp("folders") / "broad"), ".zip")


def tasks(served: Served, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.get("/api/tasks", params=query).json()["tasks"]
    return found


def state(served: Served, task: str) -> str:
    return str(served.get(f"/api/tasks/{task}").json()["state"])


def answers(served: Served, model: str) -> bool:
    with ollama.Client(host=served.url) as client:
        return (client.generate(model, "a", options={"num_predict": 2}).eval_count or 0) == 2


# The body


def beginning(filename: str, fields: Mapping[str, str]) -> bytes:
    """A form up to where its file begins."""
    said = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="Model"; filename="{filename}"\r\n\r\n'
    return ("".join(said) + head).encode()


@contextmanager
def half_sent(served: Served, path: str, body: bytes, announced: int) -> Iterator[socket.socket]:
    """A request whose body is longer than what has been sent of it."""
    host, port = served.url.removeprefix("http://").split(":")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def answered(connection: socket.socket) -> tuple[int, str]:
    """The status and the text of an answer, which comes before the body is whole."""
    received = b""
    while b"}" not in received and (piece := connection.recv(2**16)):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["detail"]


@pytest.mark.parametrize("path", ["/models/upload/", "/models/deploy/"])
@pytest.mark.parametrize("dies", [False, True], ids=["leaves", "dies"])
def test_a_client_that_goes_in_the_middle_of_the_body_leaves_nothing(
    served: Served, home: Path, path: str, dies: bool
) -> None:
    before, known = tree(home), tasks(served)
    fields = {"model_name_on_ollama": "halved"} if "deploy" in path else {}
    with half_sent(served, path, beginning("halved.zip", fields) + bytes(2**20), 2**24) as connection:
        eventually(lambda: any(name.endswith("upload.part") for name in tree(home)), "some of it is on the disk")
        if dies:  # the kernel of a dead machine's neighbour answers for it with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: not drafts(home), "what came of it is gone")
    assert (tree(home), tasks(served)) == (before, known)


def test_a_client_that_goes_after_the_body_stops_nothing(served: Served, broad: Path) -> None:
    with asked(served, "POST", "/models/deploy/", **form(broad, "left.zip", model_name_on_ollama="left")) as story:
        first = next(story.lines)
        with halted(served, "extractor"):
            assert story.answer is not None
            story.answer.close()
    assert succeeded(told(served, "GET", f"/api/tasks/{first.task}/events"))
    assert answers(served, "left")


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"server": "there"}, 400, "there is no server 'there'"),
        ({"server": "far"}, 400, "of the kind openai"),
        ({"quantize": "Q9"}, 400, "Q9"),
        ({"quantise": "Q8_0"}, 400, "unknown field 'quantise'"),
        ({"parameters": "{"}, 400, "parameters is not JSON"),
    ],
)
def test_what_the_fields_say_is_looked_at_before_the_file_comes(
    served: Served, home: Path, fields: dict[str, str], status: int, says: str
) -> None:
    body = beginning("never.zip", {"model_name_on_ollama": "never", **fields}) + b"PK"
    with half_sent(served, "/models/deploy/", body, 2**24) as connection:
        code, detail = answered(connection)
    assert (code, says in detail) == (status, True), detail
    assert not drafts(home)


@pytest.mark.parametrize("path", ["/models/upload/", "/models/deploy/"])
def test_more_than_the_disk_has_is_507_before_it_comes(served: Served, home: Path, path: str) -> None:
    free = shutil.disk_usage(home).free
    fields = {"model_name_on_ollama": "huge"} if "deploy" in path else {}
    with half_sent(served, path, beginning("huge.zip", fields) + b"PK", free + 2**30) as connection:
        assert answered(connection)[0] == 507
    eventually(lambda: not drafts(home), "nothing is kept")


# Cancelled

PHASES = {"extractor": "Extract", "converter": "Convert"}


@contextmanager
def in_the_middle(served: Served, pack: Path, name: str, phase: str) -> Iterator[tuple[Story, list[Line]]]:
    """A deployment whose child stands still in the middle of what it does, and what it has told until then."""
    with asked(served, "POST", "/models/deploy/", **form(pack, f"{name}.zip", model_name_on_ollama=name)) as story:
        lines = [next(story.lines)]
        with halted(served, phase):
            yield story, lines


@pytest.mark.parametrize("phase", PHASES)
def test_what_is_cancelled_leaves_nothing(served: Served, home: Path, broad: Path, phase: str) -> None:
    before = tree(home)
    with in_the_middle(served, broad, "unwanted", phase) as (story, lines):
        task = lines[0].task
        ended = httpx2.delete(f"{served.url}/api/tasks/{task}", timeout=PROMPT).json()
        assert ended["state"] == "cancelled"
        sound([*lines, *(rest := list(story.lines))])
        assert (rest[-1].status, rest[-1].action, rest[-1].details["type"]) == (499, "Cancelled.", "cancelled")
        assert not any("extractor" in word or "converter" in word for word in commands(served))
        assert not drafts(home)
        assert digest(served, "unwanted") == ""
        if phase == "extractor":
            assert tree(home) == before
            status, detail = refused(served, "POST", f"/api/tasks/{task}/retry")
            assert (status, "upload it again" in detail) == (404, True)
        else:  # the artifact is whole and has its name, like any other
            assert {name.split("/")[1] for name in tree(home).keys() - before.keys()} == {"unwanted"}
            assert succeeded(told(served, "DELETE", "/models/", json={"model": "unwanted"}))
            status, detail = refused(served, "POST", f"/api/tasks/{task}/retry")
            assert (status, "'unwanted' not found" in detail) == (404, True)
        assert tree(home) == before


def commands(served: Served) -> list[str]:
    return [word for child in served.runners() for word in child.cmdline()]


def test_what_is_cancelled_before_its_turn_leaves_nothing_either(
    served: Served, home: Path, broad: Path, tmp_path: Path
) -> None:
    small = packed(write_model(tmp_path / "small"), ".zip")
    before = tree(home)
    with (
        in_the_middle(served, broad, "first", "extractor") as (_, first),
        in_the_middle(served, broad, "second", "extractor") as (_, second),
    ):
        with asked(served, "POST", "/models/upload/", **form(small, "third.zip")) as third_story:
            third = next(third_story.lines)
            assert (third.action, state(served, third.task)) == ("Wait for other tasks.", "queued")
            assert third.task in drafts(home)
            httpx2.delete(f"{served.url}/api/tasks/{third.task}", timeout=PATIENCE).raise_for_status()
            assert [line.status for line in third_story.lines] == [499]
            assert third.task not in drafts(home)
        for line in (*first, *second):
            httpx2.delete(f"{served.url}/api/tasks/{line.task}", timeout=PATIENCE).raise_for_status()
    assert (drafts(home), tree(home)) == (set(), before)


# The server's end


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_what_the_server_s_end_interrupts_is_finished_from_its_last_whole_step(
    tmp_path: Path, broad: Path, phase: str, number: signal.Signals
) -> None:
    with serve("--drain-timeout", "0", home=tmp_path) as served:
        with in_the_middle(served, broad, "mine", phase) as (story, lines):
            task, children = lines[0].task, served.runners()
            served.signal(number)
            served.process.wait(PROMPT)
            lines.extend(heard(story))
        assert gone(children, within=GONE)
        assert not any(line.ratio == 1.0 for line in lines)
    with serve(home=tmp_path) as served:
        eventually(lambda: state(served, task) == "interrupted", "the task is known to be interrupted")
        before = told(served, "GET", f"/api/tasks/{task}/events")
        assert (before[-1].status, before[-1].action) == (503, "Interrupted.")
        assert drafts(tmp_path) == ({task} if phase == "extractor" else set())
        assert digest(served, "mine") == ""
        again = told(served, "POST", f"/api/tasks/{task}/retry")
        assert succeeded(again)
        unpacked = "Start extract model." in [line.action for line in again]
        assert unpacked is (phase == "extractor")
        shown = served.get(f"/api/tasks/{again[0].task}").json()
        assert (shown["retry_of"], shown["origin"], shown["state"]) == (task, task, "succeeded")
        assert answers(served, "mine")
        assert not drafts(tmp_path)
        assert refused(served, "POST", f"/api/tasks/{task}/retry")[0] == 409


def test_watchers_hear_that_the_server_ends_and_do_not_hold_it_up(tmp_path: Path, broad: Path) -> None:
    """Answers may take an hour to their end here; what a task says is none, since the task ends now."""
    with serve("--drain-timeout", "3600", home=tmp_path) as served:
        with in_the_middle(served, broad, "mine", "extractor") as (story, lines):
            served.signal(signal.SIGTERM)
            lines.extend(story.lines)
        assert (lines[-1].status, lines[-1].action) == (503, "Interrupted.")
        assert served.process.wait(PROMPT) == 0


def heard(story: Story) -> Iterator[Line]:
    """What comes until the end, or until the connection is cut."""
    try:
        yield from story.lines
    except httpx2.RemoteProtocolError:
        return
