"""How servers of each kind are asked how they are, over a way that answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from time import time
from types import MappingProxyType
from typing import Any

import pytest
from tests.virtual import clock, virtually

from localmodels.backends.far import Far
from localmodels.backends.http import Reply
from localmodels.backends.probes import MOST_LIST, MOST_SHOWN, SHOWING
from localmodels.core import via
from localmodels.core.errors import (
    BackendError,
    Garbled,
    LoopDetected,
    RateLimited,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from localmodels.core.servers import ServerKind, ServerSpec
from localmodels.dialects.told import MOST_MODELS, Told

Answer = object
"""A JSON value; bytes; a status without a body; ``None`` for nobody there; a function of the body that was sent."""


class Said:
    """An answer that is there."""

    content_type = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    @property
    def ended(self) -> bool:
        return not self._body

    @property
    def pouring(self) -> None:
        return

    def streamed(self) -> None: ...

    def begun(self) -> None: ...

    async def piece(self) -> bytes:
        body, self._body = self._body[: 2**20], self._body[2**20 :]
        return body

    def close(self) -> None: ...


class Way:
    """Answers by path; where nothing is, 404.

    Attributes:
        asked: paths, in order.
        hangs: paths at which nobody ever answers.
    """

    def __init__(self, **answers: Answer) -> None:
        self.answers: dict[str, Answer] = {f"/{path.replace('__', '/')}": one for path, one in answers.items()}
        self.asked: list[str] = []
        self.hangs: set[str] = set()

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        self.asked.append(path)
        await asyncio.sleep(0.01)
        if path in self.hangs:
            await asyncio.Event().wait()
        answer = self.answers.get(path, self.answers.get(path.partition("?")[0], 404))
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(json.loads(body or b"null"))  # type: ignore[operator]
        if answer is None:
            raise Unreachable("the server cannot be reached")
        if isinstance(answer, int):
            return Said(answer, b"{}")
        return Said(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    async def close(self) -> None: ...


def far(kind: ServerKind, way: Way) -> Far:
    return Far(ServerSpec(name="far", url="http://far", kind=kind), way)


async def look(kind: ServerKind, way: Way) -> Told:
    return await far(kind, way).look()


def tag(name: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"name": name, "digest": f"{number:064x}", "size": 7, **fields}


def names(told: Told) -> list[str]:
    return [model.name for model in told.models]


def ollama(*tags: dict[str, Any], **answers: Answer) -> Way:
    usual: dict[str, Answer] = {
        "api__tags": {"models": tags},
        "api__version": {"version": "0.12.3"},
        "api__ps": {"models": [{"name": "m:1", "size": 10, "size_vram": 8, "context_length": 4096}]},
        "api__show": {"capabilities": ["tools"], "model_info": {"general.architecture": "a", "a.context_length": 99}},
    }
    return Way(**{**usual, **answers})


@virtually
async def test_an_ollama() -> None:
    way = ollama(tag("m:1", capabilities=["completion"], context_length=5))
    told = await look("ollama", way)
    assert (names(told), told.version, told.memory_free) == (["m:1"], "0.12.3", None)
    assert told.running is not None
    assert [(one.model.name, one.size_vram, one.context_length) for one in told.running] == [("m:1", 8, 4096)]
    assert way.asked == ["/api/tags", "/api/version", "/api/ps"], "and nothing is generated"


@virtually
async def test_a_localmodels_tells_what_is_left_of_its_memory() -> None:
    told = await look(
        "ollama", ollama(tag("m:1", capabilities=["completion"]), api__ps={"models": [], "memory_free": 9})
    )
    assert (told.running, told.memory_free) == ((), 9)


@virtually
async def test_what_a_model_can_do_is_asked_once_for_each_digest() -> None:
    way = ollama(tag("m:1", 1), tag("n:1", 2), tag("same:1", 1), tag("nameless:1", digest=""))
    server = far("ollama", way)
    told = await server.look()
    assert [model.capabilities for model in told.models] == [("tools",)] * 3 + [()]
    assert [model.context_length for model in told.models] == [99] * 3 + [0]
    assert way.asked.count("/api/show") == 2
    await server.look()
    assert way.asked.count("/api/show") == 2
    way.answers["/api/tags"] = {"models": [tag("m:1", 3)]}
    way.answers["/api/show"] = {"capabilities": ["vision"]}
    assert (await server.look()).models[0].capabilities == ("vision",), "it is another model now"
    assert way.asked.count("/api/show") == 3
    way.answers["/api/tags"] = {"models": [tag("m:1", 1)]}
    await server.look()
    assert way.asked.count("/api/show") == 4, "what is gone is forgotten"


@virtually
async def test_many_models_are_shown_a_few_at_a_time() -> None:
    way = ollama(*(tag(f"m{number}", number + 1) for number in range(2 * MOST_SHOWN + 1)))
    server = far("ollama", way)
    for known in (MOST_SHOWN, 2 * MOST_SHOWN, 2 * MOST_SHOWN + 1):
        told = await server.look()
        assert sum(bool(model.capabilities) for model in told.models) == known
        assert len(told.models) == 2 * MOST_SHOWN + 1


@virtually
async def test_a_list_does_not_wait_for_what_is_shown() -> None:
    way = ollama(tag("m:1", 1), tag("n:1", 2))
    way.hangs = {"/api/show"}
    began = clock()
    assert names(await look("ollama", way)) == ["m:1", "n:1"]
    assert clock() - began < SHOWING + 0.1


@pytest.mark.parametrize("shown", [404, 500, None, b"<html>"])
@virtually
async def test_what_is_not_shown_is_not_known(shown: Answer) -> None:
    told = await look("ollama", ollama(tag("m:1"), api__show=shown))
    assert (names(told), told.models[0].capabilities) == (["m:1"], ())


@virtually
async def test_an_old_ollama_tells_less() -> None:
    told = await look("ollama", Way(api__tags={"models": [tag("m:1")]}))
    assert (names(told), told.version, told.running) == (["m:1"], "", None)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"api__tags": None}, Unreachable),
        ({"api__tags": 401}, Unauthenticated),
        ({"api__tags": 500}, BackendError),
        ({"api__tags": 503}, Unavailable),
        ({"api__tags": b"<html>"}, Garbled),
        ({"api__tags": {"models": [tag("m", 1), tag("m", 2)]}}, Garbled),
        ({"api__tags": b" " * (MOST_LIST + 1)}, Garbled),
        ({"api__ps": 500}, BackendError),
        ({"api__version": None}, Unreachable),
    ],
)
@virtually
async def test_what_is_a_failure(answers: dict[str, Answer], error: type[Exception]) -> None:
    with pytest.raises(error):
        await look("ollama", ollama(tag("m:1"), **answers))


@pytest.mark.parametrize(("kind", "path"), [("openai", "v1__models"), ("llamacpp", "v1__models")])
@virtually
async def test_what_is_a_failure_of_others(kind: ServerKind, path: str) -> None:
    for answer, error in ((None, Unreachable), (401, Unauthenticated), (429, RateLimited), (b"[]", Garbled)):
        with pytest.raises(error):
            await look(kind, Way(**{path: answer}))


@virtually
async def test_a_vllm() -> None:
    way = Way(v1__models={"data": [{"id": "org/m", "max_model_len": 8192}]}, version={"version": "0.11.2"})
    server = far("openai", way)
    told = await server.look()
    assert (names(told), told.version, told.running, told.whole) == (["org/m"], "0.11.2", None, True)
    await server.look()
    assert way.asked == ["/v1/models", "/version", "/v1/models"], "a version stays"
    way.answers["/v1/models"] = None
    with pytest.raises(Unreachable):
        await server.look()
    way.answers.update({"/v1/models": {"data": []}, "/version": {"version": "0.12"}})
    assert (await server.look()).version == "0.12", "who comes back may be another"


@virtually
async def test_a_vllm_has_in_memory_what_it_lists() -> None:
    created = round(time())  # the time of its answer, which tells nothing of a model
    listed = {"id": "org/m", "owned_by": "vllm", "created": created, "max_model_len": 8192}
    told = await look("openai", Way(v1__models={"data": [listed]}))
    assert told.running is not None
    assert [(one.model.name, one.context_length) for one in told.running] == [("org/m", 8192)]
    assert told.models[0].modified_at == ""


@pytest.mark.parametrize("status", [403, 404, 405, 501])
@virtually
async def test_some_answer_and_have_no_list(status: int) -> None:
    told = await look("openai", Way(v1__models=status))
    assert (told.models, told.version, told.whole) == ((), "", False)


@virtually
async def test_a_llama_server() -> None:
    way = Way(
        v1__models={"data": [{"id": "tiny", "meta": {"size": 5, "n_ctx": 2048}}]},
        props={
            "default_generation_settings": {"n_ctx": 1024},
            "modalities": {"vision": True},
            "build_info": "b11549-1",
        },
        slots=[{"is_processing": True}, {"is_processing": False}],
    )
    told = await look("llamacpp", way)
    (model,) = told.models
    assert (model.name, model.context_length, model.capabilities, told.version) == (
        "tiny",
        1024,
        ("vision",),
        "b11549-1",
    )
    assert told.running is not None
    assert [(one.model.name, one.context_length) for one in told.running] == [("tiny", 1024)]
    assert (told.busy, told.whole) == (1, False), "it answers by any name"
    way.answers["/props"] = {"is_sleeping": True}
    assert (await look("llamacpp", way)).running == (), "asleep, it is not in memory"


@virtually
async def test_a_llama_server_that_is_at_a_long_prompt_is_well() -> None:
    way = Way(v1__models={"data": [{"id": "tiny"}]}, props={})
    way.hangs = {"/slots"}
    told = await look("llamacpp", way)
    assert (names(told), told.busy) == (["tiny"], None)


@virtually
async def test_a_llama_server_with_many_models() -> None:
    models = [{"id": "a", "status": {"value": "loaded"}}, {"id": "b", "status": {"value": "unloaded"}}]
    told = await look("llamacpp", Way(v1__models={"data": models}, props={"role": "router", "build_info": "b1"}))
    assert told.running is not None
    assert (names(told), [one.model.name for one in told.running], told.version) == (["a", "b"], ["a"], "b1")
    assert told.whole


@virtually
async def test_anthropic_has_pages() -> None:
    pages = {
        "/v1/models?limit=1000": {"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "last_id": "b"},
        "/v1/models?limit=1000&after_id=b": {"data": [{"id": "c"}], "has_more": False, "last_id": "c"},
    }
    way = Way()
    way.answers.update(pages)
    told = await look("anthropic", way)
    assert (names(told), told.more, told.whole) == (["a", "b", "c"], False, False)


@virtually
async def test_pages_without_an_end() -> None:
    same = Way(v1__models={"data": [{"id": "a"}], "has_more": True, "last_id": "a"})
    with pytest.raises(Garbled, match="no end"):
        await look("anthropic", same)
    counted = iter(range(10**6))

    def page(_: object) -> object:
        ids = [{"id": f"m{next(counted)}"} for _ in range(500)]
        return {"data": ids, "has_more": True, "last_id": ids[-1]["id"]}

    more = Way(v1__models=page)
    seen = await look("anthropic", more)
    assert (len(seen.models), seen.more) == (MOST_MODELS, True)
    assert len(more.asked) == MOST_MODELS // 500


@virtually
async def test_another_gateway_tells_what_it_calls_itself() -> None:
    way = ollama(tag("m:1", gateways=["them", "others"]), api__version={"version": "1", "gateway": "them"})
    via.begin("us")
    told = await look("ollama", way)
    assert (told.gateway, told.version, told.models[0].gateways) == ("them", "1", ("them", "others"))


@virtually
async def test_a_server_that_is_we_ourselves_is_none() -> None:
    way = ollama(tag("m:1"), api__version={"version": "1", "gateway": "us"})
    via.begin("us")
    with pytest.raises(LoopDetected, match="this very program under another address"):
        await look("ollama", way)
