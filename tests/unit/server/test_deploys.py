"""Seed 001's routes through the application: what is a status, what is a story, and what is left when somebody goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Scope
from tests.awaited import awaited
from tests.tasks_at_work import Worker, unhurried, work_of
from tools.reference import rows

from localmodels.core.access import LOCAL, Caller
from localmodels.core.artifacts import Artifact
from localmodels.core.deploys import Deployment, Removal, Upload
from localmodels.core.errors import Conflict, DiskFull, InvalidRequest, LocalModelsError, NotFound, TooLarge
from localmodels.core.library import CreateRequest
from localmodels.core.tasks import TaskKind
from localmodels.flows.deploy.deploys import request_of
from localmodels.flows.tasks.tasks import Tasks
from localmodels.flows.visit import Visit
from localmodels.server.app import Application
from localmodels.server.deploys import Deploying
from localmodels.server.gate import Gate
from localmodels.server.rows import deploys as deploy_rows
from localmodels.server.wire import Headers
from localmodels.state.memory import MemoryTasks

CALLERS = {
    "admin": LOCAL,
    "bob": Caller("bob", "bob", frozenset({"manage"})),
    "few": Caller("few", "few", frozenset({"manage"}), models=("mine*",)),
    "reader": Caller("reader", "reader", frozenset({"list"})),
}
FORM = "multipart/form-data; boundary=x-x"
KINDS: tuple[TaskKind, ...] = ("upload", "create", "deploy", "delete")


def form(*, file: str = "a.zip", last: bool = False, **fields: str) -> bytes:
    """The fields, then the file, or the file first."""
    said = b"".join(
        f'--x-x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items()
    )
    brought = f'--x-x\r\nContent-Disposition: form-data; name="Model"; filename="{file}"\r\n\r\nPK..\r\n'.encode()
    return (brought + said if last else said + brought) + b"--x-x--\r\n"


class Named:
    """Access by a header that names the caller."""

    def caller(self, scope: Scope) -> Caller:
        return CALLERS[dict(scope["headers"])[b"x-who"].decode()]

    def admit(self, visit: Visit) -> None: ...

    def told(self, visit: Visit) -> Headers:
        return ()


class Shelf:
    """Artifacts that are kept nowhere.

    Attributes:
        saved: by the id of its draft, what was uploaded and not thrown away.
        arriving: set when the first piece of a file has come.
        meanwhile: happens before a file is saved.
    """

    def __init__(self, *found: Artifact) -> None:
        self.found = found
        self.saved: dict[str, tuple[str, bytes, int | None]] = {}
        self.discarded: list[str] = []
        self.fails: LocalModelsError | None = None
        self.arriving = asyncio.Event()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def all(self) -> Sequence[Artifact]:
        return self.found

    async def save(self, job: str, filename: str, pieces: AsyncIterator[bytes], size: int | None) -> None:
        if self.fails is not None:
            raise self.fails
        data = b""
        async for piece in pieces:
            data += piece
            self.arriving.set()
        self.saved[job] = (filename, data, size)
        if self.meanwhile is not None:
            await self.meanwhile()

    async def discard(self, job: str) -> None:
        self.discarded.append(job)
        self.saved.pop(job, None)


class Site:
    """A server that has these routes; its works do what they are told."""

    def __init__(self, shelf: Shelf | None = None, refuses: LocalModelsError | None = None) -> None:
        self.shelf = shelf or Shelf()
        self.workers = {kind: Worker() for kind in KINDS}
        self.tasks = Tasks(MemoryTasks(), self.workers, most_waiting=1, pause=unhurried)
        self.checked: list[Deployment] = []
        self._refuses = refuses
        routes = deploy_rows.rows(SimpleNamespace(deploying=Deploying(self.shelf, self.tasks, self._check)))  # type: ignore[arg-type]
        mine = {(row.path, row.methods): row for row in routes}
        self._application = Application([mine.get((row.path, row.methods), row) for row in rows()], Gate(), Named())

    def _check(self, wanted: Deployment) -> None:
        self.checked.append(wanted)
        if self._refuses is not None:
            raise self._refuses

    def call(self, method: str, path: str, *pieces: bytes, who: str = "admin", kind: str = "application/json") -> Call:
        """A request that is under way; its body ends with the last piece unless that is empty."""
        return Call(self._application, method, path, pieces, who, kind)

    async def ask(self, method: str, path: str, body: bytes = b"", **how: str) -> tuple[int, list[Any]]:
        """The status and the lines of an answer."""
        call = self.call(method, path, body or b"\n", **how)
        await call.ended
        return call.status, [json.loads(line) for line in call.body.splitlines()]

    async def known(self) -> list[tuple[str, str, str, bytes]]:
        """The tasks that there are."""
        every = [await self.tasks.get(task.id) for task in await self.tasks.all()]
        return [(task.kind, task.subject, task.owner, task.request) for task in every]


class Call:
    """One request, whose client stays until it is told to leave."""

    def __init__(
        self, application: Application, method: str, path: str, pieces: Sequence[bytes], who: str, kind: str
    ) -> None:
        self.status = 0
        self.body = b""
        self.pieces: list[bytes] = []
        self.began = asyncio.Event()
        self._gone = asyncio.Event()
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.left = list(pieces)
        scope = {
            "type": "http", "method": method, "path": path, "query_string": b"", "server": ("127.0.0.1", 8000),
            "headers": [(b"host", b"localhost"), (b"x-who", who.encode()), (b"content-type", kind.encode())],
        }  # fmt: skip
        self.ended = asyncio.ensure_future(application(scope, self._receive, self._send))

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> Message:
        if self.left:
            piece = self.left.pop(0)
            if piece:
                more = bool(self.left)
                return {"type": "http.request", "body": piece, "more_body": more}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = message["headers"]
            self.began.set()
        self.body += message.get("body", b"")
        self.pieces += [message["body"]] if "body" in message else []


# Stories


@awaited
async def test_the_list_is_told_in_lines_and_is_no_task() -> None:
    site = Site(Shelf(Artifact(name="b", kind="adapter", size=1), Artifact(name="a", kind="gguf", size=2)))
    status, lines = await site.ask("GET", "/models/", who="reader")
    assert status == 200
    said = [line["message"] for line in lines]
    assert [(one["action"], one["progress"], one["progress_ratio"], one["details"]["model"]) for one in said] == [
        ("Get model.", 0.5, 0.5, "b"),
        ("Get model.", 1.0, 1.0, "a"),
    ]
    assert len({one["task_uuid"] for one in said}) == 1
    assert await site.tasks.all() == ()
    call = site.call("GET", "/models/", b"\n", who="reader")
    await call.ended
    assert len(call.pieces) == 3  # one for each, which may be large, and the end
    assert await Site().ask("GET", "/models/") == (200, [])


@awaited
async def test_an_upload_begins_a_task_when_it_has_been_saved() -> None:
    site = Site()
    site.workers["upload"].order(*work_of("a"))
    status, lines = await site.ask("POST", "/models/upload/", form(), kind=FORM, who="bob")
    assert (status, lines[-1]["message"]["progress"]) == (200, 1.0)
    [job] = site.shelf.saved
    assert site.shelf.saved[job][:2] == ("a.zip", b"PK..")
    assert lines[0]["message"]["task_uuid"] == job
    assert await site.known() == [("upload", "a", "bob", request_of(Upload("a.zip")))]
    assert site.shelf.discarded == []


@awaited
@pytest.mark.parametrize("last", [False, True])
async def test_a_deployment_has_its_fields_from_the_form(*, last: bool) -> None:
    site = Site()
    site.workers["deploy"].order(*work_of("mine"))
    body = form(last=last, model_name_on_ollama="mine", quantize="Q8_0", server="far")
    status, _ = await site.ask("POST", "/models/deploy/", body, kind=FORM)
    wanted = Deployment(CreateRequest("mine", artifact="a", quantize="Q8_0"), "far", Upload("a.zip"))
    assert (status, await site.known()) == (200, [("deploy", "mine", LOCAL.id, request_of(wanted))])
    # Before the file where the fields are there, and again when all of them are.
    assert site.checked == ([wanted] if last else [wanted, wanted])


@awaited
async def test_a_creation_and_a_removal_are_tasks_too() -> None:
    site = Site()
    for kind, method, path, body in (
        ("create", "POST", "/models/create/", b'{"model": "a", "model_name_on_ollama": "mine"}'),
        ("delete", "DELETE", "/models/", b'{"model": "a"}'),
    ):
        site.workers[kind].order(*work_of("a"))  # type: ignore[index]
        status, lines = await site.ask(method, path, body)
        assert (status, lines[-1]["message"]["action"]) == (200, "Success.")
    created = Deployment(CreateRequest("mine", artifact="a"))
    assert await site.known() == [
        ("delete", "a", LOCAL.id, request_of(Removal("a"))),
        ("create", "mine", LOCAL.id, request_of(created)),
    ]
    assert site.checked == [created]


@awaited
async def test_a_failure_is_a_status_while_nothing_was_said_and_then_the_last_line() -> None:
    site = Site()
    body = b'{"model": "a", "model_name_on_ollama": "mine"}'
    site.workers["create"].order(NotFound("artifact 'a' not found", param="model"))
    assert await site.ask("POST", "/models/create/", body) == (404, [{"detail": "artifact 'a' not found"}])
    site.workers["create"] = site.workers["deploy"]
    site.tasks.register("create", site.workers["create"])
    site.workers["create"].order(work_of("mine")[0], Conflict("in use", param="model"))
    status, lines = await site.ask("POST", "/models/create/", body)
    assert (status, [line["status"] for line in lines]) == (200, [200, 409])
    details = lines[-1]["message"]["details"]
    assert (details["type"], details["loc"], details["msg"]) == ("conflict", ["model"], "in use")
    assert lines[-1]["message"]["progress"] < 1


@awaited
async def test_what_could_not_even_wait_is_told_before_anything_is_uploaded() -> None:
    site = Site()
    for name in "xyz":
        await site.tasks.start("create", name)
    for path, body, kind in (
        ("/models/upload/", form(), FORM),
        ("/models/deploy/", form(model_name_on_ollama="m"), FORM),
        ("/models/create/", b'{"model": "a", "model_name_on_ollama": "m"}', "application/json"),
    ):
        call = site.call("POST", path, body, kind=kind)
        await call.ended
        assert (call.status, b"tasks wait" in call.body, call.left) == (503, True, [body])
        assert dict(call.headers)[b"retry-after"] == b"60"
    assert (site.shelf.arriving.is_set(), site.shelf.saved, len(await site.tasks.all())) == (False, {}, 3)
    await site.tasks.close()


@awaited
async def test_who_finds_the_queue_full_when_the_upload_is_there_leaves_nothing_of_it() -> None:
    site = Site(shelf := Shelf())
    for name in "xy":
        await site.tasks.start("create", name)

    async def meanwhile() -> None:
        await shelf.arriving.wait()
        await site.tasks.start("create", "z")

    shelf.meanwhile = meanwhile
    assert (await site.ask("POST", "/models/upload/", form(), kind=FORM))[0] == 503
    assert (shelf.saved, len(shelf.discarded)) == ({}, 1)
    await site.tasks.close()


@awaited
async def test_a_removal_does_not_wait_for_other_tasks() -> None:
    site = Site()
    await asyncio.gather(*(site.tasks.start("create", name) for name in "xyz"))
    site.workers["delete"].order(*work_of("a"))
    status, lines = await site.ask("DELETE", "/models/", b'{"model": "a"}')
    assert (status, len(lines)) == (200, 2)
    await site.tasks.close()


# Who goes


@awaited
async def test_who_goes_in_the_middle_of_the_body_leaves_nothing() -> None:
    site = Site()
    half = form(model_name_on_ollama="mine").partition(b"PK")[0] + bytes(2**12)
    call = site.call("POST", "/models/deploy/", half, b"", kind=FORM)
    await site.shelf.arriving.wait()
    call.leave()
    await asyncio.wait([call.ended])
    assert len(site.shelf.discarded) == 1
    assert (site.shelf.saved, await site.tasks.all()) == ({}, ())


@awaited
async def test_who_goes_after_the_body_stops_nothing() -> None:
    site = Site()
    first, *rest = work_of("a")
    site.workers["upload"].order(first)
    call = site.call("POST", "/models/upload/", form(), kind=FORM)
    await call.began.wait()
    call.leave()
    await asyncio.wait([call.ended])
    [task] = await site.tasks.all()
    assert task.state == "running"
    site.workers["upload"].order(*rest)
    await site.workers["upload"].idle()
    async for _ in site.tasks.follow(task.id):
        pass
    assert (await site.tasks.get(task.id)).state == "succeeded"
    assert site.shelf.discarded == []


# Statuses


@awaited
@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "says"),
    [
        ("POST", "/models/upload/", b"{}", "application/json", 415, "must be a form"),
        ("POST", "/models/upload/", form(file="a.rar"), FORM, 415, "a.rar"),
        ("POST", "/models/upload/", form(file="a b.zip"), FORM, 422, "cannot be the name"),
        ("POST", "/models/upload/", b"--x-x--\r\n", FORM, 400, "has no file"),
        ("POST", "/models/upload/", b"x", "multipart/form-data; boundary=" + "y" * 71, 400, "boundary"),
        ("POST", "/models/deploy/", form(), FORM, 400, "model_name_on_ollama is required"),
        ("POST", "/models/deploy/", form(last=True, model_name_on_ollama="m", x="y"), FORM, 400, "unknown field 'x'"),
        ("POST", "/models/create/", b"{}", "application/json", 400, "model is required"),
        ("POST", "/models/create/", b"{", "application/json", 400, "not JSON"),
        ("POST", "/models/create/", b" " * (2**20 + 1), "application/json", 413, ""),
        ("DELETE", "/models/", b"{}", "application/json", 400, "model is required"),
    ],
)
async def test_what_is_wrong_begins_no_task_and_leaves_no_draft(
    method: str, path: str, body: bytes, kind: str, status: int, says: str
) -> None:
    site = Site()
    code, [said] = await site.ask(method, path, body, kind=kind)
    assert (code, set(said), says in said["detail"]) == (status, {"detail"}, True), said
    assert (site.shelf.saved, await site.tasks.all()) == ({}, ())


@awaited
@pytest.mark.parametrize("error", [TooLarge("quota"), DiskFull("no room"), Conflict("in use")])
async def test_what_cannot_be_saved_is_a_status(error: LocalModelsError) -> None:
    site = Site(shelf := Shelf())
    shelf.fails = error
    assert await site.ask("POST", "/models/upload/", form(), kind=FORM) == (error.status, [{"detail": error.message}])
    assert await site.tasks.all() == ()


@awaited
async def test_what_the_check_refuses_is_told_before_the_file_is_taken() -> None:
    site = Site(refuses=InvalidRequest("there is no server 'x'", param="server"))
    body = form(model_name_on_ollama="m", server="x")
    assert (await site.ask("POST", "/models/deploy/", body, kind=FORM))[0] == 400
    assert (len(site.checked), site.shelf.saved, site.shelf.arriving.is_set()) == (1, {}, False)
    body = form(last=True, model_name_on_ollama="m", server="x")
    assert (await site.ask("POST", "/models/deploy/", body, kind=FORM))[0] == 400
    assert (site.shelf.saved, await site.tasks.all()) == ({}, ())


@awaited
async def test_a_server_on_its_way_out_keeps_nothing() -> None:
    site = Site()
    await site.tasks.close()
    assert (await site.ask("POST", "/models/upload/", form(), kind=FORM))[0] == 503
    assert (await site.ask("POST", "/models/deploy/", form(model_name_on_ollama="m"), kind=FORM))[0] == 503
    assert site.shelf.saved == {}


# Keys


@awaited
async def test_who_may_do_what() -> None:
    site = Site()
    create = b'{"model": "a", "model_name_on_ollama": "%s"}'
    for who, method, path, body, kind in (
        ("reader", "DELETE", "/models/", b'{"model": "a"}', "application/json"),
        ("reader", "POST", "/models/upload/", form(), FORM),
        ("reader", "POST", "/models/create/", create % b"mine", "application/json"),
        ("reader", "POST", "/models/deploy/", form(model_name_on_ollama="mine"), FORM),
        ("bob", "GET", "/models/", b"", "application/json"),
        # What an artifact is made of nobody has looked at: a base that is not theirs, for one.
        ("few", "POST", "/models/create/", create % b"mine", "application/json"),
        ("few", "POST", "/models/create/", create % b"other", "application/json"),
        ("few", "POST", "/models/deploy/", form(model_name_on_ollama="other"), FORM),
        ("few", "POST", "/models/deploy/", form(last=True, model_name_on_ollama="mine"), FORM),
    ):
        assert (await site.ask(method, path, body, who=who, kind=kind))[0] == 403, (who, path)
    assert (site.shelf.saved, await site.tasks.all(), site.checked) == ({}, (), [])
