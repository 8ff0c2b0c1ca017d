"""Requests for a bare name on a fleet: who is chosen, what it is called, and what holds for all of them together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat, generate
from tests.contract.routed_fleet import DONE, MODEL, Came, Own, fleet, visit_of
from tests.contract.test_routed import GOOD, ROADS, failing, is_good, went

from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.fake.script import Break
from localmodels.core.access import USUAL, Caller
from localmodels.core.chat import Chunk
from localmodels.core.errors import Forbidden, ModelNotFound, Unavailable
from localmodels.core.rerank import RerankRequest
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec
from localmodels.flows.connections.failover import RESERVE, SHARE


@awaited
async def test_the_bare_name_is_the_label_and_the_host_is_told() -> None:
    async with fleet({"a": GOOD, "b": GOOD}) as at:
        for road in ROADS:
            came = await went(at, road)
            assert (came.visit.label, came.server) == (MODEL, "a")
            assert came.visit.route.startswith("priority; ")
        named = await at.ask(chat(model=f"b/{MODEL}"))
        assert (named.visit.model, named.server, named.visit.route) == (f"b/{MODEL}", "b", "")
        relayed = await at.relay(model=f"b/{MODEL}")
        assert (relayed.visit.model, relayed.server) == (f"b/{MODEL}", "b")


@pytest.mark.parametrize("road", ["bare", "relay", "named", "named relay"])
@awaited
async def test_a_key_opens_the_names_that_it_is_for(road: str) -> None:
    async with fleet({"a": GOOD, "b": GOOD}) as at:

        async def asked(*models: str) -> Came:
            caller = Caller("k", "k", USUAL, models=models)
            name = f"b/{MODEL}" if "named" in road else MODEL
            if "relay" in road:
                return await at.relay(model=name, caller=caller)
            return await at.ask(chat(model=name), caller=caller)

        bare, prefixed, other = await asked(MODEL), await asked("b/*"), await asked("other", "a/*")
        assert (bare.error is None) is ("named" not in road)
        assert (prefixed.error is None) is ("named" in road)
        assert isinstance(other.error, Forbidden)
        for came in (bare, prefixed):
            assert came.error is None or isinstance(came.error, Forbidden)


@awaited
async def test_places_are_bounded_over_the_fleet_and_come_back() -> None:
    slow = Script((Chunk("one"), Chunk("two")), DONE, breaks=Break("stall", after=1))
    async with fleet({"a": slow, "b": slow}, places=2) as at:
        tasks = [asyncio.ensure_future(at.ask()) for _ in range(5)]
        for name in ("a", "b"):
            await (await at.book(name).nth(1)).begun.wait()
        await asyncio.sleep(0)
        assert at.generations() == {"a": 2, "b": 2}
        assert (at.book("a").most, at.book("b").most) == (2, 2)
        tasks[0].cancel()
        await (await at.book("a").nth(2)).begun.wait()
        assert at.book("a").most == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert [host.in_flight for host in at.remotes.fleet.hosts()] == [0, 0]


@awaited
async def test_a_session_stays_where_it_was_answered() -> None:
    async with fleet({"a": GOOD, "b": GOOD, "c": GOOD}, policy="round_robin") as at:
        first = await at.ask(session="s")
        for _ in range(6):
            assert (await at.ask(session="s")).server == first.server
            assert (await at.relay(session="s")).server == first.server
        others = {(await at.ask()).server for _ in range(6)}
        assert others == {"a", "b", "c"}, "everybody else goes round"
        stranger = [(await at.ask(session="s", caller=Caller("k", "k", USUAL))).server for _ in range(2)]
        assert len(set(stranger)) == 1


@awaited
async def test_turns_are_taken_once_a_request_whichever_way_it_goes() -> None:
    """Bodies that cannot pass as they are have been decided for once already."""
    async with fleet({"a": GOOD, "b": GOOD}, policy="round_robin", kinds={"b": "openai"}) as at:
        servers = []
        for _ in range(4):
            to = at.to("ollama", b'{"model": "m:1", "messages": []}', visit_of())
            servers.append(to.hops[0].host.spec.name if to else (await at.ask()).server)
        assert sorted(servers) == ["a", "a", "b", "b"]


@awaited
async def test_what_does_not_speak_the_dialect_goes_the_usual_way() -> None:
    async with fleet({"a": GOOD, "b": GOOD}, kinds={"a": "openai", "b": "ollama"}) as at:
        assert (await went(at, "translated")).server == "a"
        assert (await at.relay("openai")).server == "a"
        with pytest.raises(AssertionError):  # the best does not speak it
            await at.relay("ollama")
        at.fakes["a"].refuse()
        for connection in tuple(at.fakes["a"].connections):
            connection.abort()
        came = await at.ask()
        assert is_good(came)
        assert came.server == "b"


@awaited
async def test_a_host_that_has_failed_rests_while_others_have_the_model() -> None:
    async with fleet({"bad": failing(503, retry_after=20), "good": GOOD}) as at:
        for _ in range(5):
            assert is_good(await at.ask())
        assert at.generations() == {"bad": 1, "good": 5}


@awaited
async def test_a_dead_host_costs_few_attempts() -> None:
    async with fleet({"dead": GOOD, "good": GOOD}) as at:
        at.fakes["dead"].refuse()
        results = await asyncio.gather(*(at.ask() for _ in range(4)))
        assert all(map(is_good, results))
        results = [await at.ask() for _ in range(50)]
        assert all(map(is_good, results))


@awaited
async def test_a_fleet_that_fails_is_not_stormed() -> None:
    slow = failing(503, retry_after=1)  # busy, which speaks for no defect: nobody is given up
    async with fleet(dict.fromkeys("abcd", slow)) as at:
        for _ in range(300):
            assert isinstance((await at.ask()).error, Unavailable)
        retried = sum(at.generations().values()) - 300
        assert retried <= RESERVE + SHARE * 300 + 30


@awaited
async def test_what_was_made_of_tokens_at_one_host_stays_there() -> None:
    async with fleet({"far": GOOD}, Own(GOOD), own_first=True) as at:
        going_on = replace(generate(model=MODEL), context=(1, 2, 3))
        assert await at.text(going_on) == "good!"
        assert at.generations() == {"far": 0, "local": 1}


@awaited
async def test_the_choice_may_be_ours() -> None:
    async with fleet({"a": GOOD, "b": GOOD}) as at:
        came = await at.ask(chat(model="auto"))
        assert (came.error, came.visit.model) == (None, MODEL)
        nobody = await at.ask(chat(model="auto:telepathy"))
        assert isinstance(nobody.error, ModelNotFound)
        barred = await at.ask(chat(model="auto"), caller=Caller("k", "k", USUAL, models=("auto", "other")))
        assert isinstance(barred.error, Forbidden)
        allowed = await at.ask(chat(model="auto"), caller=Caller("k", "k", USUAL, models=("auto", "m:*")))
        assert allowed.error is None


@awaited
async def test_without_a_registered_server_this_machine_answers_as_ever() -> None:
    async with fleet({}, Own(GOOD)) as at:
        came = await at.ask()
        assert (came.error, came.server, came.visit.route) == (None, "local", "")
        assert at.remotes.fleet.hosts()[0].in_flight == 0
        assert at.relays.find(MODEL, "ollama", "chat") is None


@pytest.mark.parametrize("change", [{"name": "moved"}, {"key": Secret("sk-new")}, {"idle": 9.0}])
@awaited
async def test_who_waits_goes_by_what_its_owner_says_by_then(change: dict[str, Any]) -> None:
    gone_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gone_on.wait()

    async with FakeServer(Script(chunks=(Chunk("good"),), first=1.0), sleep=sleep) as fake:
        spec = ServerSpec(name="far", id="id-far", url=fake.url, kind="ollama", registered=True, max_concurrent=1)
        async with fleet({}, more=[spec]) as at:
            asked = [asyncio.create_task(at.ask()) for _ in range(4)]
            await fake.book.nth(0)
            await at.remotes.adopt([replace(spec, **change)])
            gone_on.set()
            came = await asyncio.gather(*asked)
            assert [(one.error, one.text) for one in came] == [(None, "good")] * 4
            assert at.remotes.fleet.hosts()[0].state != "down"


@awaited
async def test_what_a_kind_of_server_has_not_is_asked_of_another() -> None:
    kinds: Any = {"talks": "ollama", "ranks": "llamacpp"}
    async with fleet({"talks": GOOD, "ranks": GOOD}, kinds=kinds) as at:
        request = RerankRequest(MODEL, "Which?", ("one", "two"))
        found = await at.finders.find(MODEL)
        async with found.ready(request, visit_of()) as backend:
            assert len((await backend.rank(request)).results) == 2
        assert at.generations() == {"talks": 0, "ranks": 1}
        assert at.remotes.fleet.hosts()[0].state != "down"
