"""Requests without content on a fleet: where a model is loaded, and where it leaves the memory, over our own routes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.awaited import awaited
from tests.contract.routed_fleet import MODEL, Behind, Own, fleet
from tests.contract.test_routed import GOOD, failing
from tests.contract.test_routed_http import ask

from localmodels.backends.fake.script import Page
from localmodels.core.catalog import Model, Running
from localmodels.core.chat import ChatRequest, EmbedRequest
from localmodels.core.errors import Unreachable
from localmodels.dialects.told import Told
from localmodels.flows.connections.request_counts import ANSWERED, LEFT
from localmodels.flows.visit import Visit

LOADED = Page(b'{"model":"m:1","created_at":"2026-01-01T00:00:00Z","done":true,"done_reason":"load"}')
UNLOADED = Page(b'{"model":"m:1","created_at":"2026-01-01T00:00:00Z","done":true,"done_reason":"unload"}')


def empty(model: str = MODEL, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [], "stream": False, **more}


def ended(at: Behind, name: str) -> dict[str, int]:
    host = at.remotes.fleet.named(name)
    assert host is not None
    return dict(at.remotes.traffic.tally.at(host).ended)


def in_memory(at: Behind, *names: str) -> None:
    """These have told that they have it in memory, and all others that they have not."""
    model = Model(MODEL, 0, "", "")
    for host in at.remotes.fleet.hosts():
        running = (Running(model, "running", 1, 1, 0, "", 0),) if host.spec.name in names else ()
        at.remotes.fleet.saw(host, Told((model,), running=running))


# Into memory.


@pytest.mark.parametrize("model", [MODEL, "auto", f"far/{MODEL}"])
@awaited
async def test_who_can_be_told_is_told_to_load(model: str) -> None:
    async with fleet({"far": GOOD}) as at:
        at.fakes["far"].pages["/api/chat"] = LOADED
        status, head, body = await ask(at, "/api/chat", empty(model, keep_alive="7m"))
        assert (status, json.loads(body)["done_reason"], head["x-localmodels-server"]) == (200, "load", "far")
        (asked,) = at.fakes["far"].asked
        sent = json.loads(asked.body)
        assert (asked.path, sent["model"], sent["messages"]) == ("/api/chat", MODEL, [])
        assert sent["keep_alive"] in ("7m", "420s", 420, 420.0)
        assert ended(at, "far") == {ANSWERED: 1}


@awaited
async def test_of_another_kind_it_is_asked_whether_it_has_the_model() -> None:
    kinds: Any = {"far": "openai"}
    async with fleet({"far": GOOD}, kinds=kinds) as at:
        for listed, status in ((MODEL, 200), ("other", 404)):
            at.fakes["far"].pages["/v1/models"] = Page(json.dumps({"data": [{"id": listed}]}).encode())
            for name in (MODEL, f"far/{MODEL}"):
                assert (await ask(at, "/api/chat", empty(name)))[0] == status, (name, listed)
        assert {one.path for one in at.fakes["far"].asked} == {"/v1/models"}, "nothing is generated"


@pytest.mark.parametrize(
    "page", [Page(b"not found", status=404), Page(b'{"data": []}')], ids=["no list", "an empty one"]
)
@awaited
async def test_who_has_no_list_may_have_it(page: Page) -> None:
    async with fleet({"far": GOOD}, kinds={"far": "openai"}) as at:
        at.fakes["far"].pages["/v1/models"] = page
        assert (await ask(at, "/api/chat", empty(f"far/{MODEL}")))[0] == 200


@pytest.mark.parametrize("kind", ["ollama", "openai"])
@pytest.mark.parametrize("model", [MODEL, "auto", f"far/{MODEL}"])
@awaited
async def test_where_nobody_listens_nothing_was_loaded(model: str, kind: str) -> None:
    async with fleet({"far": GOOD}, kinds={"far": kind}) as at:
        at.fakes["far"].refuse()
        status, _, body = await ask(at, "/api/chat", empty(model))
        assert (status, b"cannot be reached" in body) == (502, True)


@awaited
async def test_who_fails_to_load_it_is_followed_by_another() -> None:
    async with fleet({"bad": failing(503), "good": GOOD}) as at:
        at.fakes["bad"].pages["/api/chat"] = Page(b'{"error":"no memory"}', status=503)
        at.fakes["good"].pages["/api/chat"] = LOADED
        status, head, _ = await ask(at, "/api/chat", empty("auto"))
        assert (status, head["x-localmodels-server"]) == (200, "good")


@awaited
async def test_this_machine_loads_its_own() -> None:
    async with fleet({"far": GOOD}, Own(GOOD), own_first=True) as at:
        status, head, _ = await ask(at, "/api/chat", empty())
        assert (status, head["x-localmodels-server"], ended(at, "local")) == (200, "local", {ANSWERED: 1})
        assert at.own is not None
        assert at.own.taken == 1


@pytest.mark.parametrize("name", ["far", "local"])
@awaited
async def test_how_long_a_load_takes_says_nothing_of_how_long_an_answer_does(name: str) -> None:
    """By the mean of answers it is told how long a place will be waited for."""
    async with fleet({"far": GOOD}, Own(GOOD), own_first=name == "local") as at:
        host = at.remotes.fleet.named(name)
        assert host is not None
        at.fakes["far"].pages["/api/chat"] = LOADED
        status, head, _ = await ask(at, "/api/chat", empty())
        assert (status, head["x-localmodels-server"], host.service) == (200, name, 0.0)
        del at.fakes["far"].pages["/api/chat"]
        assert (await at.ask()).server == name
        assert host.service > 0.0


@awaited
async def test_no_inputs_load_the_model_too() -> None:
    async with fleet({"far": GOOD}) as at:
        at.fakes["far"].pages["/api/embed"] = Page(b'{"model":"m:1","embeddings":[]}')
        visit = Visit()
        embeddings = await at.answers.embed(EmbedRequest("auto", ()), visit)
        assert (embeddings.vectors, visit.server) == ((), "far")
        assert [one.path for one in at.fakes["far"].asked] == ["/api/embed"]


@awaited
async def test_what_is_no_answer_in_pieces_is_answered_as_well() -> None:
    """A count, that is, and the ids of a text: nobody has left."""
    async with fleet({"far": GOOD}, kinds={"far": "llamacpp"}) as at:
        at.fakes["far"].pages["/tokenize"] = Page(b'{"tokens":[1,2,3]}')
        assert await at.answers.tokenize(MODEL, "a b c", Visit(), special=False) == (1, 2, 3)
        assert ended(at, "far") == {ANSWERED: 1}
        at.fakes["far"].pages["/apply-template"] = Page(b'{"prompt":"x"}')
        assert await at.answers.count(ChatRequest(MODEL, ()), Visit()) == 3
        assert ended(at, "far") == {ANSWERED: 2}
        assert LEFT not in ended(at, "far")


# Out of memory.


@pytest.mark.parametrize("keep_alive", [0, "0s", "0"])
@awaited
async def test_to_unload_is_no_question_to_whichever_host_is_first(keep_alive: object) -> None:
    """They do not tell what is in their memory."""
    async with fleet({"far": GOOD, "near": GOOD}) as at:
        status, _, body = await ask(at, "/api/chat", empty(keep_alive=keep_alive))
        assert status == 400
        assert b"say with `server` where" in body
        assert not at.fakes["far"].asked
        assert not at.fakes["near"].asked
    async with fleet({"far": GOOD}) as at:  # there is no question which
        assert (await ask(at, "/api/chat", empty(keep_alive=keep_alive)))[0] == 200
        assert [one.path for one in at.fakes["far"].asked] == ["/api/chat"]


@pytest.mark.parametrize("own", [False, True])
@awaited
async def test_it_leaves_the_memory_of_the_one_server_that_has_it_there(own: bool) -> None:
    async with fleet({"far": GOOD, "near": GOOD}, Own(GOOD) if own else None, own_first=own) as at:
        in_memory(at, "near")
        at.fakes["near"].pages["/api/generate"] = UNLOADED
        status, head, body = await ask(at, "/api/chat", empty(keep_alive=0))
        assert (status, json.loads(body)["done_reason"], head["x-localmodels-server"]) == (200, "unload", "near")
        assert not at.fakes["far"].asked
        (asked,) = at.fakes["near"].asked
        told = {"model": MODEL, "keep_alive": 0, "stream": False}
        assert (asked.path, json.loads(asked.body)) == ("/api/generate", told)
        assert at.looked[:2] == ["id-far", "id-near"], "what they told before may be old"


@awaited
async def test_of_several_that_have_it_there_it_has_to_be_said_which() -> None:
    async with fleet({"far": GOOD, "near": GOOD, "other": GOOD}, Own(GOOD)) as at:
        in_memory(at, "far", "near")
        status, _, body = await ask(at, "/api/chat", empty(keep_alive=0))
        words = f"{MODEL} is in memory on the servers 'far', 'near'; say with `server` where it shall leave the memory"
        assert (status, json.loads(body)["error"]) == (400, words)
        assert not [one for fake in at.fakes.values() for one in fake.asked]


@awaited
async def test_this_machine_is_meant_before_all_others() -> None:
    async with fleet({"far": GOOD}, Own(GOOD)) as at:
        assert at.own is not None
        in_memory(at, "far", "local")
        at.own.in_memory = True
        status, head, _ = await ask(at, "/api/chat", empty(keep_alive=0))
        assert (status, head["x-localmodels-server"], at.own.unloaded) == (200, "local", 1)
        assert not at.fakes["far"].asked


@awaited
async def test_what_is_in_no_memory_need_not_leave_it() -> None:
    for own in (None, Own(GOOD)):
        async with fleet({"far": GOOD, "near": GOOD}, own) as at:
            in_memory(at)
            status, head, body = await ask(at, "/api/chat", empty(keep_alive=0))
            assert (status, json.loads(body)["done_reason"], head["x-localmodels-server"]) == (200, "unload", "local")
            assert not [one for fake in at.fakes.values() for one in fake.asked]


@awaited
async def test_who_cannot_be_told_says_so() -> None:
    async with fleet({"far": GOOD}, kinds={"far": "openai"}) as at:
        for name in (MODEL, f"far/{MODEL}"):
            status, _, body = await ask(at, "/api/chat", empty(name, keep_alive=0))
            assert (status, b"the server 'far' decides itself what it has in memory" in body) == (400, True)


@awaited
async def test_who_is_down_has_nothing_in_memory() -> None:
    async with fleet({"far": GOOD, "near": GOOD}) as at:
        in_memory(at, "far", "near")
        far = at.remotes.fleet.named("far")
        assert far is not None
        at.remotes.fleet.failed(far, Unreachable("gone"), float("inf"))
        at.fakes["near"].pages["/api/generate"] = UNLOADED
        _, head, _ = await ask(at, "/api/chat", empty(keep_alive=0))
        assert head["x-localmodels-server"] == "near"


@awaited
async def test_auto_is_no_model_that_could_leave_the_memory() -> None:
    async with fleet({"far": GOOD}) as at:
        status, _, body = await ask(at, "/api/chat", {**empty("auto"), "keep_alive": 0})
        assert (status, b"leaves the choice to us" in body) == (400, True)
        assert not any(b'"auto"' in one.body for one in at.fakes["far"].asked)
