"""Which hosts a bare name means, what is remembered of answers, and what a dry run tells."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from tests.awaited import awaited

from localmodels.core import via
from localmodels.core.access import LOCAL, USUAL, Caller
from localmodels.core.catalog import Model
from localmodels.core.chat import ChatRequest, EmbedRequest, GenerateRequest, Message, Text
from localmodels.core.errors import (
    BackendError,
    Forbidden,
    ModelNotFound,
    NotFound,
    RateLimited,
    Unavailable,
    Unreachable,
)
from localmodels.core.fleet import ModelRow
from localmodels.core.rerank import RerankRequest
from localmodels.core.servers import AnyKind, ServerSpec
from localmodels.dialects.routing import read_route, write_route
from localmodels.dialects.told import Told
from localmodels.fleet.breaker import IN_A_ROW
from localmodels.fleet.copies import LONGEST
from localmodels.fleet.fleet import Attempt, Fleet
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.routing.router import Meant, Routes, call_of
from localmodels.flows.visit import Visit
from localmodels.server.route import shown

PROMPT = "You are a helpful assistant. " * 60


def spec(name: str, kind: AnyKind = "ollama", *models: str, **more: Any) -> ServerSpec:
    usual = {"url": f"http://{name}:1", "registered": not models and kind != "local", "max_concurrent": 4}
    return ServerSpec(name=name, id=f"id-{name}", kind=kind, models=models, **{**usual, **more})


class World:
    """Hosts that nobody asks, which told of these models."""

    def __init__(self, policy: str = "auto") -> None:
        self.remotes = Remotes(fleet=Fleet(clock=lambda: 0.0))
        self.routes = Routes(self.remotes, policy=policy)

    async def adopt(self, **hosts: tuple[ServerSpec, tuple[str, ...]]) -> None:
        await self.remotes.adopt([one for one, _ in hosts.values()])
        for one, models in hosts.values():
            host = self.remotes.fleet.named(one.name)
            assert host is not None
            if models:
                self.remotes.fleet.saw(host, Told(tuple(Model(name, 0, "", "") for name in models)))

    def down(self, name: str) -> None:
        host = self.remotes.fleet.named(name)
        assert host is not None
        self.remotes.fleet.failed(host, Unreachable("gone"), float("inf"))

    def tries(self, name: str, model: str) -> Attempt:
        """Somebody tries a model that is given up there."""
        host = self.remotes.fleet.named(name)
        assert host is not None
        return self.remotes.fleet.began(host, model)

    def give_up(self, name: str, model: str) -> None:
        """It fails there until it rests."""
        for _ in range(IN_A_ROW):
            self.tries(name, model).ended(BackendError("500"))

    def names(self, meant: Meant | None) -> list[str]:
        return [host.spec.name for host in meant.hosts] if meant else []

    def order(self, model: str, request: ChatRequest | None = None, **about: Any) -> list[str]:
        meant = self.routes.meant(model) or self.routes.automatic(model)
        assert meant is not None
        visit = visit_of(**about)
        decision = self.routes.decided(meant, self.routes.asked(meant, request or asked(model), visit), visit)
        return [hop.host.spec.name for hop in decision.hops]

    def chosen(self) -> tuple[str, list[str]]:
        """The model where the choice is ours, and who is asked for it."""
        meant = self.routes.automatic("auto")
        assert meant is not None
        decision = self.routes.decided(meant, self.routes.asked(meant, asked("auto"), visit_of()), visit_of())
        return decision.model, [hop.host.spec.name for hop in decision.hops]

    def dry(self, name: str, capability: str = "", session: str = "") -> tuple[str, list[str], dict[str, str]]:
        """What is told of such a request: the model, who would be asked, and why nobody else."""
        meant = self.routes.explainable(name)
        if meant is None:
            raise ModelNotFound(name)
        route = shown(self.routes.explained(meant, capability, session, LOCAL))
        assert read_route(write_route(route)) == route
        left_out = {one.server: one.reason for one in route.left_out}
        return route.model, [one.server for one in route.targets], left_out

    def spare(self, model: str) -> list[str]:
        """Who is asked when all have failed."""
        meant = self.routes.meant(model)
        assert meant is not None
        decision = self.routes.decided(meant, self.routes.asked(meant, asked(model), visit_of()), visit_of())
        tried = tuple((hop.host.id, meant.model) for hop in decision.hops)
        return [hop.host.spec.name for hop in decision.further(tried)]

    def answered(self, model: str, by: str, request: ChatRequest | None = None, **about: Any) -> None:
        """A request was answered by this host."""
        meant = self.routes.meant(model)
        assert meant is not None
        visit = visit_of(**about)
        decision = self.routes.decided(meant, self.routes.asked(meant, request or asked(model), visit), visit)
        (hop,) = [hop for hop in decision.hops if hop.host.spec.name == by]
        decision.answers(hop)


def visit_of(caller: Caller = LOCAL, session: str = "") -> Visit:
    visit = Visit("req", caller)
    visit.session = session
    return visit


def asked(model: str = "m", text: str = PROMPT) -> ChatRequest:
    return ChatRequest(model, (Message("user", (Text(text),)),))


@awaited
async def test_a_bare_name_means_all_that_have_it() -> None:
    world = World()
    await world.adopt(
        a=(spec("a"), ("m:latest", "other:1")),
        b=(spec("b", "openai"), ("m",)),
        off=(spec("off", is_active=False), ("m",)),
        local=(spec("local", "local"), ("m:latest",)),
    )
    for name in ("m", "m:latest"):
        meant = world.routes.meant(name)
        assert world.names(meant) == ["a", "b", "local"]
        assert meant is not None
        assert (meant.name, meant.model) == ("m:latest", "m:latest")
    assert world.names(world.routes.meant("other:1")) == ["a"]
    assert world.routes.meant("other") is None
    assert world.routes.meant("none") is None


@awaited
async def test_a_name_without_a_tag_where_no_host_has_one() -> None:
    world = World()
    await world.adopt(a=(spec("a", "openai"), ("gpt",)), b=(spec("b", "openai"), ("gpt",)))
    meant = world.routes.meant("gpt")
    assert meant is not None
    assert meant.name == "gpt"


@awaited
async def test_tables_of_the_file_go_first_and_by_their_very_names() -> None:
    world = World()
    await world.adopt(
        file=(spec("file", "openai", "m"), ()), second=(spec("second", "openai", "m"), ()), a=(spec("a"), ("m", "n"))
    )
    assert world.names(world.routes.meant("m")) == ["file", "second"]
    assert world.names(world.routes.meant("m:latest")) == ["a"]
    assert world.names(world.routes.meant("n")) == ["a"]
    assert world.order("m") == ["file", "second"]


@awaited
async def test_without_a_registered_server_nothing_is_routed() -> None:
    world = World()
    await world.adopt(local=(spec("local", "local"), ("m",)), file=(spec("file", "openai", registered=False), ("m",)))
    assert world.routes.meant("m") is None


@awaited
async def test_the_same_prompt_goes_where_it_was_read() -> None:
    world = World()
    await world.adopt(a=(spec("a"), ("m",)), b=(spec("b"), ("m",)), c=(spec("c"), ("m",)))
    world.answered("m", "c")
    longer = asked(text=PROMPT + "And now?")
    assert world.order("m")[0] == "c"
    assert world.order("m", longer)[0] == "c"
    meant = world.routes.meant("m")
    assert meant is not None
    fields = {"model": Raw(b'"m"'), "messages": Raw(b'[{"role":"user","content":"%b"}]' % PROMPT.encode())}
    ask = world.routes.asked_as_it_is(meant, "chat", fields, visit_of())
    world.routes.decided(meant, ask, visit_of()).answers(world.routes.decided(meant, ask, visit_of()).hops[1])
    again = world.routes.decided(meant, ask, visit_of())
    assert "prefix" in (again.hops[0].reason or str)()
    world.down("c")
    world.remotes.fleet.saw(world.remotes.fleet.hosts()[2], Told((Model("m", 0, "", ""),)))
    assert world.routes._affinity.owners(ask.prefix).get("id-c") is None, "who was down has begun anew"


@awaited
async def test_a_conversation_is_its_callers_own() -> None:
    world = World(policy="priority")
    await world.adopt(a=(spec("a", priority=1), ("m", "n")), b=(spec("b"), ("m", "n")))
    world.answered("m", "b", session="s")
    assert world.order("m", session="s")[0] == "b"
    assert world.order("n", session="s")[0] == "a", "with another model it is another conversation"
    assert world.order("m", session="t")[0] == "a"
    assert world.order("m", session="s", caller=Caller("k", "k", USUAL))[0] == "a"


@awaited
async def test_who_failed_a_moment_ago_is_asked_only_where_nobody_else_is_there() -> None:
    world = World(policy="priority")
    await world.adopt(a=(spec("a", priority=1), ("m",)), b=(spec("b"), ("m",)))
    first, second = world.remotes.fleet.hosts()
    world.remotes.traffic.met(first, "m", Unavailable("busy", retry_after=20))
    assert world.order("m") == ["b"]
    assert world.spare("m") == ["a"]
    world.remotes.traffic.met(second, "m", Unavailable("busy", retry_after=20))
    assert world.order("m") == ["a", "b"]


@awaited
async def test_nobody_answers() -> None:
    world = World()
    await world.adopt(a=(spec("a"), ("m",)), b=(spec("b"), ("m",)))
    world.down("a")
    assert world.order("m") == ["b"]
    world.down("b")
    with pytest.raises(Unavailable, match="'a', 'b'") as caught:
        world.order("m")
    assert caught.value.retry_after


@pytest.mark.parametrize(
    ("models", "found"), [(("*",), "m:latest"), (("auto", "n"), "n:latest"), (("auto", "z"), Forbidden)]
)
@awaited
async def test_the_choice_is_made_among_what_a_key_is_for(models: tuple[str, ...], found: Any) -> None:
    world = World()
    await world.adopt(a=(spec("a"), ("m:latest",)), b=(spec("b", priority=-1), ("n:latest",)))
    meant = world.routes.automatic("auto")
    assert meant is not None
    visit = visit_of(Caller("k", "k", USUAL, models=models))
    ask = world.routes.asked(meant, asked("auto"), visit)
    if isinstance(found, str):
        assert world.routes.decided(meant, ask, visit).model == found
    else:
        with pytest.raises(found):
            world.routes.decided(meant, ask, visit)
    assert world.routes.automatic("m") is None


@awaited
async def test_servers_that_only_talk_make_no_vectors() -> None:
    world = World()
    await world.adopt(a=(spec("a", "anthropic", priority=9), ("m",)), b=(spec("b"), ("m",)))
    meant = world.routes.meant("m")
    assert meant is not None
    ask = world.routes.asked(meant, EmbedRequest("m", ("a",)), visit_of())
    assert [hop.host.spec.name for hop in world.routes.decided(meant, ask, visit_of()).hops] == ["b"]
    assert world.order("m")[0] == "a"


@awaited
async def test_where_only_such_servers_have_it_they_say_so_themselves() -> None:
    world = World()
    await world.adopt(a=(spec("a", "anthropic"), ("m",)))
    meant, auto = world.routes.meant("m"), world.routes.automatic("auto")
    assert meant is not None
    assert auto is not None
    embedding = EmbedRequest("m", ("a",))
    decision = world.routes.decided(meant, world.routes.asked(meant, embedding, visit_of()), visit_of())
    assert [hop.host.spec.name for hop in decision.hops] == ["a"]
    with pytest.raises(ModelNotFound, match="auto"):
        world.routes.decided(auto, world.routes.asked(auto, embedding, visit_of()), visit_of())


@awaited
async def test_the_choice_passes_over_what_was_given_up_as_long_as_anything_else_is_left() -> None:
    world = World()
    await world.adopt(a=(spec("a", priority=1), ("m", "n")), b=(spec("b"), ("m", "o")))
    assert world.order("auto") == ["a", "b"]
    world.give_up("a", "m:latest")
    assert world.chosen() == ("n", ["a"])
    assert world.dry("auto") == ("n:latest", ["a"], {"b": "does not have n:latest"})
    world.remotes.fleet.named("a").spec = spec("a", priority=-1)  # type: ignore[union-attr]
    assert world.chosen() == ("m", ["b"]), "the copy that rests is no reason against another"
    assert world.dry("auto")[2] == {"a": "rests: requests for this model have failed there"}


@awaited
async def test_who_failed_a_moment_ago_rests_for_the_choice_of_a_model_as_for_a_name() -> None:
    world = World(policy="priority")
    await world.adopt(a=(spec("a", priority=1), ("m",)), b=(spec("b"), ("m", "n")))
    first, second = world.remotes.fleet.hosts()
    assert world.chosen() == ("m", ["a", "b"])
    world.remotes.traffic.met(first, "m", RateLimited("slow down", retry_after=30))
    assert world.order("m") == ["b"]
    assert world.chosen() == ("m", ["b"])
    assert world.dry("auto")[1:] == (["b"], {"a": "rests: requests for this model have failed there"})
    world.remotes.traffic.met(second, "m", NotFound("no such call"))
    assert world.chosen() == ("n", ["b"]), "another model, where no copy of the best is left"
    world.remotes.traffic.met(second, "n", BackendError("500"))
    assert world.chosen() == ("m", ["a", "b"]), "and who rests, before nobody"


@awaited
async def test_where_the_choice_is_ours_and_a_model_has_failed_others_are_asked() -> None:
    world = World(policy="priority")
    await world.adopt(
        a=(spec("a", priority=2), ("m", "n", "o")), b=(spec("b", priority=1), ("m", "x")), c=(spec("c"), ("y",))
    )
    meant = world.routes.automatic("auto")
    assert meant is not None
    decision = world.routes.decided(meant, world.routes.asked(meant, asked("auto"), visit_of()), visit_of())
    assert (decision.model, [hop.host.spec.name for hop in decision.hops]) == ("m", ["a", "b"])

    def then(*tried: tuple[str, str]) -> list[tuple[str, str]]:
        hops = decision.further(tuple((f"id-{host}", f"{model}:latest" if model else "") for host, model in tried))
        return [(hop.host.spec.name, hop.name) for hop in hops]

    assert then(("a", "m")) == [("b", "m")]
    both = ("a", "m"), ("b", "m")
    assert then(*both) == [("c", "y")], "first those that have not failed this request"
    assert then(*both, ("c", "y")) == [("a", "n")], "then those that have, with another model"
    assert then(("a", ""), ("b", "m"), ("c", "y")) == [("b", "x")], "unless it was not the model that failed"
    assert then(*both, ("c", "y"), ("a", "n")) == [("b", "x")], "or two of them have"
    assert then(*both, ("c", "y"), ("a", "n"), ("b", "x")) == []
    world.remotes.traffic.met(world.remotes.fleet.hosts()[2], "y", BackendError("500"))
    assert then(*both) == [("a", "n")], "what rests is passed over as long as there is anything else"
    assert then(*both, ("a", "n"), ("b", "x")) == [("c", "y")]


@awaited
async def test_to_ask_who_may_be_dared_changes_nothing() -> None:
    world = World()
    await world.adopt(a=(spec("a"), ("m",)), b=(spec("b"), ("n",)))
    hosts = world.remotes.fleet.hosts()
    for host, model in zip(hosts, ("m:latest", "n:latest"), strict=True):
        for _ in range(IN_A_ROW):
            world.remotes.fleet.began(host, model).ended(Unreachable("refused"))
    assert world.order("m") == ["a"]
    assert world.chosen() in [("m", ["a"]), ("n", ["b"])]
    assert [(host.state, host.failure) for host in hosts] == [("down", "refused")] * 2
    world.down("a")
    with pytest.raises(Unavailable):
        world.order("m")
    assert world.chosen() == ("n", ["b"])


@awaited
async def test_who_would_wait_for_one_that_is_being_proved_may_dare_another() -> None:
    world = World(policy="priority")
    await world.adopt(a=(spec("a", priority=1), ("m",)), b=(spec("b"), ("m",)))
    first, second = world.remotes.fleet.hosts()
    for host in (first, second):
        for _ in range(IN_A_ROW):
            world.remotes.fleet.began(host, "m:latest").ended(Unreachable("refused"))
    world.remotes.fleet.dare(first)
    assert world.order("m") == ["a"]
    world.tries("a", "m:latest")
    assert first.proving
    assert world.order("m") == ["a", "b"]


@awaited
async def test_of_a_model_that_is_switched_off_it_is_said_so() -> None:
    world = World()
    await world.adopt(a=(spec("a"), ("m",)), b=(spec("b"), ("m",)))
    world.remotes.fleet.restrict([ModelRow(id="row", server_id="id-b", model="m", name="m", is_active=False)])
    assert world.dry("m")[1:] == (
        ["a"],
        {"b": "m:latest is switched off there: localmodels models set b/m:latest --active"},
    )


@awaited
async def test_and_where_all_is_given_up_each_is_tried_once_and_the_others_hear_when_to_come_back() -> None:
    world = World()
    await world.adopt(a=(spec("a", "openai"), ("m",)), b=(spec("b", "openai", priority=-1), ("n",)))
    world.give_up("a", "m:latest")
    world.give_up("b", "n:latest")
    tries = []
    for host, model in (("a", "m"), ("b", "n")):
        assert world.chosen() == (model, [host])
        tries.append(world.tries(host, f"{model}:latest"))
    assert [one.is_try for one in tries] == [True, True]
    with pytest.raises(Unavailable) as caught:
        world.chosen()
    assert caught.value.message == "the model 'm' fails whenever it is asked on the server 'a'"
    assert caught.value.retry_after == LONGEST
    with pytest.raises(Unavailable, match="the model 'm' fails"):
        world.order("m")
    assert world.dry("auto")[1:] == (
        [],
        {"a": "rests: requests for this model have failed there", "b": "does not have m:latest"},
    )
    tries[1].answered()
    assert world.chosen() == ("n", ["b"])


def test_what_requests_ask_for() -> None:
    assert call_of(asked()) == "chat"
    assert call_of(GenerateRequest("m", prompt="x")) == "chat"
    assert call_of(GenerateRequest("m", prompt="x", raw=True)) == "generate"
    assert call_of(GenerateRequest("m", prompt=(1, 2))) == "generate"
    assert call_of(EmbedRequest("m", ("a",))) == "embed"
    assert call_of(RerankRequest("m", "q", ("a",))) == "rerank"


@awaited
async def test_a_dry_run_tells_who_would_answer_and_who_would_not() -> None:
    world = World(policy="priority")
    await world.adopt(
        a=(spec("a", priority=3), ("m", "n")),
        b=(spec("b"), ("m",)),
        c=(spec("c"), ("n",)),
        off=(spec("off", is_active=False), ("m",)),
        file=(spec("file", "openai", "t"), ()),
        local=(spec("local", "local"), ("m",)),
    )
    world.down("b")

    dry, turn = world.dry, world.routes._turn
    model, targets, left_out = dry("m")
    assert (model, targets) == ("m:latest", ["a", "local"])
    assert left_out["b"].startswith("is down: gone")
    assert left_out["c"] == "does not have m:latest"
    assert left_out["off"] == "is switched off"
    assert "file" not in left_out
    assert dry("t")[1:] == (["file"], {})
    assert dry("a/n") == ("n:latest", ["a"], {})
    assert dry("auto")[0] == "m:latest"
    assert dry("auto", "telepathy")[:2] == ("", [])
    with pytest.raises(ModelNotFound):
        dry("nothing")
    assert world.routes._turn == turn, "nobody's turn was taken"


@awaited
async def test_connections_stay_where_only_what_is_said_of_a_server_changes() -> None:
    remotes = Remotes()
    await remotes.adopt([spec("a"), spec("b")])
    before = {server.name: server for server in remotes.servers()}
    hosts = remotes.fleet.hosts()
    await remotes.adopt([spec("a", priority=5, weight=2.0, max_concurrent=1), spec("b", url="http://b:2"), spec("c")])
    after = {server.name: server for server in remotes.servers()}
    assert after["a"] is before["a"]
    assert (after["a"].spec.priority, after["a"].host) == (5, hosts[0])
    assert after["b"] is not before["b"]
    assert remotes.at(hosts[0]) is after["a"]
    assert remotes.at(hosts[1]) is None, "that host has left"
    assert list(after) == ["a", "b", "c"]
    await remotes.close()


@awaited
async def test_a_request_is_not_sent_back_to_who_asks() -> None:
    world = World()
    await world.adopt(
        local=(spec("local", "local"), ("m",)),
        them=(spec("them"), ()),
        leaf=(spec("leaf"), ("n",)),
        table=(spec("table", "openai", "t"), ()),
    )
    for name in ("them", "table"):
        host = world.remotes.fleet.named(name)
        assert host is not None
        others = Model("far", 0, "", "", gateways=("them", "others"))
        world.remotes.fleet.saw(host, Told((Model("m", 0, "", ""), others), gateway="them"))

    def asked_by(way: str, name: str) -> list[str]:
        via.arrive(way, "us", looks=True)
        return world.names(world.routes.meant(name) or world.routes.automatic(name))

    assert [asked_by("", name) for name in ("m", "far", "t")] == [["local", "them"], ["them"], ["table"]]
    assert [asked_by("them", name) for name in ("m", "far", "t")] == [["local"], [], []]
    assert [asked_by("others", name) for name in ("m", "far")] == [["local", "them"], []]
    assert asked_by("", "auto") == ["local", "them", "leaf"]
    assert asked_by("them", "auto") == ["local", "leaf"]
