"""A name that leads nowhere, asked of the whole program in every dialect: what was wrong is said, and what is right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.acceptance.serving import serve
from tests.acceptance.test_fleet_api import QUIET, Fleet
from tests.awaited import awaited

from localmodels.backends.fake import FakeServer, Page, Script
from localmodels.backends.fake.script import Break, Failure
from localmodels.core.chat import Chunk

LACKING = Script(breaks=Break("fail", failure=Failure("model 'm:1' not found", 404, "model_not_found")))
GOOD = Script(chunks=(Chunk("good"),))
MESSAGES = [{"role": "user", "content": "Hello?"}]
ASKED: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": MESSAGES},
    "/api/generate": {"prompt": "Hello?"},
    "/api/embed": {"input": "Hello?"},
    "/api/show": {},
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "Hello?"},
    "/v1/embeddings": {"input": "Hello?"},
    "/v1/responses": {"input": "Hello?"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 9},
    "/chat": {"message": "Hello?"},
}
SAID = {
    "box/m:1": "the server 'box' has no model 'm:1'; 's2' has it: ask for 'm:1'",
    "off/m:1": "the server 'off' is switched off; 's2' has it: ask for 'm:1'",
    "nobox/m:1": "there is no server 'nobox'; 's2' has it: ask for 'm:1'",
    "box/q:1": "the server 'box' has no model 'q:1'; 's2' has it: ask for 's2/q:1'",  # `q:1` is an alias
    "nobox/q:1": "there is no server 'nobox'; 's2' has it: ask for 's2/q:1'",
    "s2/n:1": "it is switched off on the server 's2'",
    "n:1": "it is switched off on the server 's2'",
}


@pytest.fixture(scope="module")
def front(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("front")
    (home / "localmodels.toml").write_text('[alias]\n"q:1" = "near"\n')
    with serve("--model", f"near={models['brief']}", *QUIET, home=home) as served:
        yield Fleet(served)


def words(answer: httpx2.Response) -> str:
    """What an error says for people, wherever its dialect says it."""
    said: dict[str, Any] = json.loads(answer.text)
    error = said.get("error", said)
    told: str = error if isinstance(error, str) else error.get("message") or error["detail"]
    return told


def settle(front: Fleet, box: str, s2: str) -> None:
    front.add("box", box)
    off = front.add("off", "http://127.0.0.1:9")
    front.good("PUT", f"/api/servers/{off['id']}", {"is_active": False})
    kept = front.add("s2", s2)
    front.good("PUT", f"/api/models/{front.models(kept)['n:1']['id']}", {"is_active": False})


@awaited
async def test_what_is_wrong_with_a_name_is_said_in_every_dialect(front: Fleet) -> None:
    async with FakeServer(LACKING, names=("a:1",)) as box, FakeServer(GOOD, names=("m:1", "n:1", "q:1")) as s2:
        box.pages["/api/show"] = Page(b'{"error": "model \'m:1\' not found"}', 404)
        await asyncio.to_thread(settle, front, box.url, s2.url)
        try:
            for name, said in SAID.items():
                for path, body in ASKED.items():
                    answer = await asyncio.to_thread(front.served.post, path, model=name, stream=False, **body)
                    assert (path, answer.status_code) == (path, 404), answer.text
                    assert words(answer) == f"model '{name}' not found: {said}", path
            assert (await asyncio.to_thread(front.chat, "m:1")).status_code == 200
        finally:
            await asyncio.to_thread(front.clear)


@awaited
async def test_a_limited_key_learns_neither_what_there_is_nor_where(front: Fleet) -> None:
    async with FakeServer(GOOD, names=("m:1", "pub:1")) as s2:
        s2.pages["/api/show"] = Page(b'{"details": {}, "model_info": {}, "capabilities": ["completion"]}')
        await asyncio.to_thread(front.add, "s2", s2.url)
        try:
            made = await asyncio.to_thread(front.good, "POST", "/api/keys", {"name": "pub", "models": ["pub*"]})
            before = len(s2.asked)
            for path, body in ASKED.items():
                for name in ("m:1", "none:1", "s2/m:1", "s2/none", "nobox/m:1", "near", "local/near", "ollama/m:1"):
                    answer = await post(front, path, {"model": name, "stream": False, **body}, made["key"])
                    assert (path, answer.status_code) == (path, 403), answer.text
                    assert words(answer) == f"this key may not use model '{name}'", path
                    assert not {"x-localmodels-server", "x-localmodels-route"} & {*answer.headers}
            assert {one.path for one in s2.asked[before:]} & {*ASKED} == set()
            for method, path, wrong in (
                ("GET", "/api/ps?server=nope", None),
                ("POST", "/api/show", {"server": "nope"}),
            ):
                answer = await asyncio.to_thread(
                    front.ask,
                    method,
                    path,
                    wrong and {"model": "pub:1", **wrong},
                    authorization=f"Bearer {made['key']}",
                )
                assert (answer.status_code, words(answer)) == (400, "there is no server 'nope'")
            assert (await post(front, "/api/chat", {"model": "pub:1", **ASKED["/api/chat"]}, made["key"])).is_success
        finally:
            await asyncio.to_thread(front.clear)


async def post(front: Fleet, path: str, body: dict[str, Any], key: str) -> httpx2.Response:
    return await asyncio.to_thread(front.ask, "POST", path, body, authorization=f"Bearer {key}")
