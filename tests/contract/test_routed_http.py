"""The same over our own routes: what callers say in headers, what they are told in them, and the dry run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message
from tests.awaited import awaited
from tests.contract.routed_fleet import MODEL, Behind, Own, fleet, says
from tests.everybody import Everybody

from localmodels.backends.fake import Script
from localmodels.backends.fake.script import Break, Failure
from localmodels.core.chat import Chunk
from localmodels.core.errors import Unreachable
from localmodels.dialects.table import DIALECTS
from localmodels.server.app import Application, Outcome
from localmodels.server.gate import Gate
from localmodels.server.inference import Codec, EventRoute
from localmodels.server.relay import relaying
from localmodels.server.route import Route
from localmodels.server.routes import Row
from localmodels.server.rows import route

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
GOOD = says("good")


def application(at: Behind, outcomes: list[Outcome] | None = None) -> Application:
    """Our routes for conversations in two dialects, and the dry run."""
    rows = []
    for name, path in PATHS.items():
        dialect = DIALECTS[name]
        codec = Codec(dialect.read_chat, at.answers.chat, dialect.chat_writer, dialect.write_chat_answer)
        chats = relaying(at.relays, dialect, "chat", EventRoute(dialect, codec, "id-"))
        rows.append(Row(("POST",), path, name, "", chats, "chat"))
    rows += route.rows(Route(at.finders))
    grants: Any = {row.path: dict.fromkeys(row.methods, "open") for row in rows}
    watchers = [] if outcomes is None else [outcomes.append]
    return Application(rows, Gate(), Everybody(), watchers, permissions=grants)


async def ask(
    at: Behind, path: str, body: dict[str, Any] | None = None, watchers: list[Outcome] | None = None, /, **headers: str
) -> tuple[int, Any, Any]:
    """Status, headers and body; ``watchers`` gets what the request was."""
    sent: list[Message] = []
    gone = asyncio.Event()
    given: list[Message] = [{"type": "http.request", "body": json.dumps(body).encode() if body else b""}]

    async def receive() -> Message:
        if given:
            return given.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    bare, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "POST" if body else "GET",
        "path": bare,
        "query_string": query.encode(),
        "headers": [
            (b"host", b"localhost"),
            *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    await application(at, watchers)(scope, receive, send)
    start = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], start, b"".join(message.get("body", b"") for message in sent[1:])


def question(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hello?"}], "stream": False, **more}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", PATHS)
@awaited
async def test_who_answered_and_why_is_in_the_head(dialect: str, stream: bool) -> None:
    async with fleet({"far": GOOD}, Own(GOOD)) as at:
        status, head, body = await ask(at, PATHS[dialect], question(stream=stream))
        assert (status, head["x-localmodels-server"]) == (200, "far")
        assert head["x-localmodels-route"].startswith("priority; ")
        assert b"good" in body
        passed = at.fakes["far"].asked[-1].path
        assert passed == "/api/chat", "what is Ollama's passes as it is, the rest is translated"
        _, head, _ = await ask(at, PATHS[dialect], question(model=f"far/{MODEL}", stream=stream))
        assert (head["x-localmodels-server"], "x-localmodels-route" in head) == ("far", False)


@pytest.mark.parametrize("dialect", PATHS)
@awaited
async def test_once_is_heeded(dialect: str) -> None:
    async with fleet({"bad": Script(breaks=Break("fail")), "good": GOOD}) as at:
        status, head, body = await ask(at, PATHS[dialect], question(), x_localmodels_once="true")
        assert (status, head["x-localmodels-server"]) == (502, "bad")
        assert "error" in json.loads(body)
        assert at.generations() == {"bad": 1, "good": 0}
        status, _, body = await ask(at, PATHS[dialect], question(), x_localmodels_once="perhaps")
        assert (status, b"X-LocalModels-Once must be" in body) == (400, True)
        status, head, _ = await ask(at, PATHS[dialect], question())
        assert (status, head["x-localmodels-server"]) == (200, "good")


@awaited
async def test_sessions_stay_by_the_header_and_by_openais_field() -> None:
    async with fleet({"a": GOOD, "b": GOOD}, policy="round_robin", kinds={"a": "openai", "b": "openai"}) as at:

        async def server(more: dict[str, Any], **headers: str) -> str:
            _, head, _ = await ask(at, PATHS["openai"], question(**more), **headers)
            return str(head["x-localmodels-server"])

        assert len({await server({}, x_localmodels_session="s") for _ in range(4)}) == 1
        assert len({await server({"prompt_cache_key": "k"}) for _ in range(4)}) == 1
        assert {await server({}) for _ in range(4)} == {"a", "b"}


@awaited
async def test_an_answer_that_breaks_off_says_so_and_no_end() -> None:
    cut = Script((Chunk("one"), Chunk("two")), breaks=Break("fail", after=1, failure=Failure("no", 500)))
    async with fleet({"bad": cut, "good": GOOD}) as at:
        for dialect, path in PATHS.items():
            status, _, body = await ask(at, path, question(stream=True))
            assert status == 200
            assert b"error" in body
            assert b'"done":true' not in body
            assert b"[DONE]" not in body, dialect
        assert at.generations()["good"] == 0


@awaited
async def test_the_dry_run() -> None:
    async with fleet({"a": GOOD, "b": GOOD}, Own(GOOD)) as at:
        status, _, body = await ask(at, f"/api/route?model={MODEL}")
        told = json.loads(body)
        assert (status, told["model"], told["policy"]) == (200, MODEL, "priority")
        assert [target["server"] for target in told["targets"]] == ["a", "b", "local"]
        assert set(told["targets"][0]) == {
            "server", "id", "model", "reason", "state", "warm", "in_flight", "max_concurrent", "memory_free",
        }  # fmt: skip
        assert (await ask(at, "/api/route/?model=nothing"))[0] == 404
        assert (await ask(at, "/api/route"))[0] == 200, "the choice is ours"
        status, _, body = await ask(at, "/api/route?capability=telepathy")
        assert (status, json.loads(body)["targets"]) == (200, [])
        assert at.generations() == {"a": 0, "b": 0, "local": 0}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failing", [Script(breaks=Break("fail")), Script(breaks=Break("refuse"))])
@awaited
async def test_what_passed_as_it_is_goes_on_in_another_dialect(failing: Script, stream: bool) -> None:
    kinds: Any = {"first": "openai", "second": "ollama"}
    async with fleet({"first": failing, "second": GOOD}, kinds=kinds) as at:
        status, head, body = await ask(at, PATHS["openai"], question(stream=stream))
        assert (status, head["x-localmodels-server"]) == (200, "second")
        assert b"good" in body
        assert [at.fakes[name].asked[-1].path for name in at.fakes] == ["/v1/chat/completions", "/api/chat"]


@awaited
async def test_one_further_generation_counts_whichever_way_it_goes() -> None:
    kinds: Any = {"a": "openai", "b": "ollama", "c": "ollama"}
    bad = Script(breaks=Break("cut"))
    async with fleet({"a": bad, "b": bad, "c": GOOD}, kinds=kinds) as at:
        status, head, _ = await ask(at, PATHS["openai"], question())
        assert (status, head["x-localmodels-server"]) == (502, "b")
        assert at.generations() == {"a": 1, "b": 1, "c": 0}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asked", ["m", "far/m", "m:latest", "friend"])
@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("kind", PATHS)
@awaited
async def test_an_answer_names_the_model_as_it_was_asked_for_unless_it_is_the_servers_own_bytes(
    kind: str, dialect: str, asked: str, stream: bool
) -> None:
    async with fleet({"far": GOOD}, model="m:latest", kinds={"far": kind}) as at:
        at.finders.adopt(default="", aliases={"friend": "far/m:latest"})
        status, _, body = await ask(at, PATHS[dialect], question(model=asked, stream=stream))
        assert status == 200
        lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line and line != b"data: [DONE]"]
        there = "m" if asked == "far/m" else "m:latest"
        named = there if kind == dialect else asked
        assert {json.loads(line)["model"] for line in lines} == {named}


@awaited
async def test_where_the_choice_was_ours_it_says_which() -> None:
    async with fleet({"far": GOOD}, model="m:latest") as at:
        _, _, body = await ask(at, PATHS["ollama"], question(model="auto"))
        assert json.loads(body)["model"] == "m:latest"


@awaited
async def test_one_model_has_one_name_in_figures_however_it_was_asked_for() -> None:
    """Who answered stands beside it."""
    async with fleet({"far": GOOD}, Own(GOOD, name="m:latest"), model="m:latest") as at:
        seen = []
        for name in ("m", "far/m", "far/m:latest", "local/m", "auto", "far/made-up"):
            for path in PATHS.values():
                outcomes: list[Outcome] = []
                status, _, _ = await ask(at, path, question(model=name), outcomes)
                assert status == 200, name
                seen.append((name, outcomes[0].visit.label, outcomes[0].visit.server))
        labels = {name: (label, server) for name, label, server in seen}
        assert labels == {
            "m": ("m:latest", "far"),
            "far/m": ("m:latest", "far"),
            "far/m:latest": ("m:latest", "far"),
            "local/m": ("m:latest", "local"),
            "auto": ("m:latest", "far"),
            "far/made-up": ("far/made-up", "far"),  # no list has it, but its server has answered by it
        }


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("model", [MODEL, f"far/{MODEL}", "auto"])
@pytest.mark.parametrize("why", ["full", "down"])
@awaited
async def test_what_nobody_had_a_place_for_was_answered_by_nobody(why: str, model: str, dialect: str) -> None:
    async with fleet({"far": GOOD}, places=1) as at:
        (far,) = at.remotes.fleet.hosts()
        at.remotes.traffic.places.patience = 0.0
        await at.remotes.traffic.places.get([far], "other", model=MODEL)
        if why == "down":
            at.remotes.fleet.failed(far, Unreachable("gone"), float("inf"))
        outcomes: list[Outcome] = []
        status, head, _ = await ask(at, PATHS[dialect], question(model=model), outcomes)
        assert (status, "x-localmodels-server" in head, outcomes[0].visit.server) == (503, False, "")
        assert outcomes[0].visit.label == ("auto" if model == "auto" and why == "down" else MODEL)
        assert not at.fakes["far"].asked
