"""Artifacts and tasks in both clients, against the dialect's other role; errors are what ended the task."""

from __future__ import annotations

import asyncio
import io
import re
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.unit.client.fake_server import FakeServer
from tests.unit.client.fake_tasks import DONE, FAILED, RUNNING, STORY, STYLE, TUNED

from localmodels.client import AsyncClient, Client, CreateRequest, Deployment, Progress
from localmodels.core.deploys import Removal
from localmodels.core.errors import EngineError, Garbled, InvalidRequest, NotFound, StreamCut
from localmodels.core.tasks import Event, Failure

WANTED = Deployment(
    CreateRequest(
        "mine",
        artifact="tuned",
        base="llama3.2",
        quantize="Q8_0",
        system="Be brief: ä.",
        template="{{ .Prompt }}",
        parameters=(("temperature", 0.2), ("stop", ("</s>", "\n"))),
    ),
    server="box",
)


def client_of(server: FakeServer) -> Client:
    return Client("127.0.0.1:8000", transport=server.transport, environ={})


def together(call: Callable[[AsyncClient], Awaitable[Any]], server: FakeServer) -> Any:
    async def run() -> Any:
        async with AsyncClient("127.0.0.1:8000", transport=server.transport, environ={}) as client:
            return await call(client)

    return asyncio.run(run())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "tuned"
    place.mkdir()
    (place / "config.json").write_text("{}")
    (place / "model.safetensors").write_bytes(bytes(range(256)) * 9000)
    (place / "training_args.bin").write_bytes(b"pickle")
    return place


CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "artifacts": (lambda client: client.artifacts(), (TUNED, STYLE)),
    "tasks": (lambda client: client.tasks(), (RUNNING, DONE, FAILED)),
    "tasks of a state": (lambda client: client.tasks("failed"), (FAILED,)),
    "task": (lambda client: client.task(FAILED.id), FAILED),
    "cancel_task": (lambda client: client.cancel_task(DONE.id), DONE),
}
STREAMS: dict[str, tuple[Callable[[Any, Path], Any], Any]] = {
    "upload_artifact": (lambda client, folder: client.upload_artifact(folder), "tuned.tar"),
    "deploy": (lambda client, folder: client.deploy(folder, WANTED), WANTED),
    "create_from_artifact": (lambda client, folder: client.create_from_artifact(WANTED), WANTED),
    "delete_artifact": (lambda client, folder: client.delete_artifact("tuned"), Removal("tuned")),
    "retry_task": (lambda client, folder: client.retry_task(FAILED.id), ("retry", FAILED.id)),
}
STREAM = pytest.mark.parametrize(("call", "asked"), STREAMS.values(), ids=STREAMS)


@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)
def test_answers_are_values_in_both_forms(call: Callable[[Any], Any], expected: object) -> None:
    with client_of(FakeServer()) as client:
        assert call(client) == expected
    assert together(call, FakeServer()) == expected


@STREAM
def test_a_task_is_its_events_in_both_forms(call: Callable[[Any, Path], Any], asked: object, folder: Path) -> None:
    async def events(client: AsyncClient) -> list[Event]:
        return [event async for event in call(client, folder)]

    server = FakeServer()
    with client_of(server) as client:
        assert list(call(client, folder)) == list(STORY)
    assert together(events, server) == list(STORY)
    assert server.long.wanted == [asked, asked]


@STREAM
def test_what_ends_a_task_is_raised_after_its_events(
    call: Callable[[Any, Path], Any], asked: object, folder: Path
) -> None:
    failure = Failure("the model gave no token", "engine_error", 500)

    async def drained(client: AsyncClient, seen: list[Event]) -> None:
        async for event in call(client, folder):
            seen.append(event)  # noqa: PERF401 - they are counted up to the error

    kinds = ("upload", "deploy", "create", "delete", "retry")
    seen: list[Event] = []
    server = FakeServer()
    server.long.fails = dict.fromkeys(kinds, failure)
    with client_of(server) as client, pytest.raises(EngineError, match="gave no token"):
        seen.extend(call(client, folder))
    with pytest.raises(EngineError, match="gave no token"):
        together(lambda client: drained(client, seen), server)
    assert seen[-6:] == list(STORY)[:6]


@STREAM
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_stream_that_is_cut_is_no_end(
    form: str, call: Callable[[Any, Path], Any], asked: object, folder: Path
) -> None:
    async def drained(client: AsyncClient) -> list[Event]:
        return [event async for event in call(client, folder)]

    server = FakeServer(cut_at=200)
    with client_of(server) as client, pytest.raises(StreamCut):
        list(call(client, folder)) if form == "sync" else together(drained, server)


@STREAM
def test_what_is_refused_before_a_task_begins(call: Callable[[Any, Path], Any], asked: object, folder: Path) -> None:
    server = FakeServer(fails_with=InvalidRequest("there is no server 'box'", param="server"))
    with client_of(server) as client, pytest.raises(InvalidRequest, match="no server 'box'"):
        list(call(client, folder))


def test_following_begins_after_what_was_seen() -> None:
    async def rest(client: AsyncClient) -> list[Event]:
        return [event async for event in client.follow(DONE.id, 3)]

    with client_of(FakeServer()) as client:
        assert list(client.follow(DONE.id)) == list(STORY)
        assert list(client.follow(DONE.id, 3)) == list(STORY)[4:]
        with pytest.raises(NotFound):
            list(client.follow("0b1e6a2c-9999-4a3b-8c4d-000000000001"))
        with pytest.raises(NotFound):
            client.task("a/../b?c")
    assert together(rest, FakeServer()) == list(STORY)[4:]


def test_a_task_to_its_end_with_a_word_for_each_event(folder: Path) -> None:
    seen: list[Event] = []
    with client_of(FakeServer()) as client:
        client.run_task(client.deploy(folder, WANTED), seen.append)
        client.run_task(client.delete_artifact("tuned"))
        with pytest.raises(NotFound, match="no artifact 'other'"):
            client.run_task(client.delete_artifact("other"))
    together(lambda client: client.run_task(client.upload_artifact(folder), seen.append), FakeServer())
    assert seen == [*STORY, *STORY]


def test_a_folder_arrives_as_a_tar_and_tells_how_far_it_is(folder: Path) -> None:
    for form in ("sync", "async"):
        server, steps = FakeServer(), list[Progress]()
        if form == "sync":
            with client_of(server) as client:
                client.run_task(client.deploy(folder, WANTED, steps.append))
        else:
            together(lambda client: client.run_task(client.deploy(folder, WANTED, steps.append)), server)  # noqa: B023
        with tarfile.open(fileobj=io.BytesIO(server.long.files["tuned.tar"])) as tar:
            assert sorted(tar.getnames()) == ["config.json", "model.safetensors"]
        assert {step.status for step in steps} == {"uploading tuned.tar"}
        assert [step.completed for step in steps] == sorted({step.completed for step in steps})
        assert steps[-1].completed == steps[-1].total == int(server.asked[-1].headers["content-length"])


def test_a_file_arrives_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(content := bytes(range(256)) * 9000)
    server = FakeServer()
    with client_of(server) as client:
        client.run_task(client.upload_artifact(file))
        with pytest.raises(FileNotFoundError):
            client.run_task(client.upload_artifact(tmp_path / "gone.gguf"))
    assert server.long.files == {"weights.gguf": content}


@pytest.mark.parametrize("name", ["artifacts", "tasks", "delete_artifact", "task"])
def test_a_stranger_is_told_from_a_server(name: str) -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=b"<html>\n"))
    arguments = [TUNED.name] if name in {"delete_artifact", "task"} else []
    with Client(transport=transport, environ={}) as client, pytest.raises(Garbled):
        list(getattr(client, name)(*arguments))


def test_every_address_has_its_call(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "routes.md").read_text()
    rows = re.findall(r"^\| ([A-Z, ]+) \| `((?:/models/|/api/tasks)[^`]*)` \|", page, re.MULTILINE)
    told = {(method, path) for methods, path in rows for method in methods.split(", ")}
    assert len(told) == 10
    server = FakeServer()
    with client_of(server) as client:
        for call, _ in CALLS.values():
            call(client)
        for stream, _ in STREAMS.values():
            list(stream(client, folder))
        list(client.follow(DONE.id))
    ids = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
    assert {(request.method, ids.sub("{uuid}", request.url.path)) for request in server.asked} == told
