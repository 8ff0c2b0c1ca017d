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
    "s2/n:1": "it is switched off on the server 's2'",
    "n:1": "it is switched off on the server 's2'",
}


@pytest.fixture(scope="module")
def front(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with serve("--model", f"near={models['brief']}", *QUIET, home=tmp_path_factory.mktemp("front")) as served:
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
    async with FakeServer(LACKING, names=("a:1",)) as box, FakeServer(GOOD, names=("m:1", "n:1")) as s2:
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
