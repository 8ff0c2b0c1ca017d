"""What is known of the hosts, and who has which model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.backends.round_trip import Unanswered
from localmodels.core.catalog import Model, Running
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Forbidden,
    InvalidRequest,
    LocalModelsError,
    LoopDetected,
    RateLimited,
    StreamCut,
    Unauthenticated,
    Unreachable,
)
from localmodels.core.fleet import Loads, ModelRow
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.breaker import DARE, IN_A_ROW
from localmodels.fleet.fleet import FRESH_LOADS, Fleet
from localmodels.fleet.hosts import Host, same_name

SECOND = 10**9
KEY = "sk-sesame-0123456789"


def spec(name: str = "far", **fields: Any) -> ServerSpec:
    fields = {"url": f"http://{name}", "kind": "ollama", "id": f"id-{name}", "registered": True, **fields}
    return ServerSpec(name=name, **fields)


def model(name: str, digest: str = "", **fields: Any) -> Model:
    return Model(name, fields.pop("size", 0), digest, "", **fields)


def told(*names: str, running: tuple[str, ...] | None = None) -> Told:
    loaded = None if running is None else tuple(Running(model(one), "running", 0, 1, 0, "", 0) for one in running)
    return Told(tuple(map(model, names)), running=loaded)


class World:
    """A fleet, its clocks, and whom it told of what."""

    def __init__(self, *specs: ServerSpec) -> None:
        self.seconds = 100.0
        self.fleet = Fleet(clock=lambda: self.seconds, now=lambda: round(self.seconds * SECOND))
        self.news: list[str] = []
        self.fleet.listen(lambda host: self.news.append(f"{host.spec.name} {host.state}"))
        self.fleet.adopt(specs)

    @property
    def far(self) -> Host:
        return self.fleet.hosts()[0]

    def request(self, error: BaseException | None = None, host: Host | None = None, model: str = "") -> None:
        attempt = self.fleet.began(host or self.far, model)
        if error is None:
            attempt.answered()
        attempt.ended(error)

    def fail(self, error: LocalModelsError | None = None, host: Host | None = None) -> None:
        self.seconds += 1
        self.fleet.failed(host or self.far, error or Unreachable("the server cannot be reached"), self.seconds)

    def names(self, name: str) -> list[str]:
        return [host.spec.name for host in self.fleet.holders(same_name(name))]


def test_hosts_are_found_by_id_and_by_name() -> None:
    world = World(spec("a"), spec("b"))
    assert [host.spec.name for host in world.fleet.hosts()] == ["a", "b"]
    assert world.fleet.host("id-b") is world.fleet.named("B") is world.fleet.hosts()[1]
    assert world.fleet.host("c") is world.fleet.named("c") is None
    assert world.news == ["a unknown", "b unknown"]


def test_who_stays_keeps_what_is_known_and_who_moves_is_another() -> None:
    world = World(spec("a"), spec("b"))
    a, b = world.fleet.hosts()
    world.fleet.saw(a, told("m"))
    world.fleet.saw(b, told("m"))
    a.in_flight = 3
    world.news.clear()
    world.fleet.adopt([spec("b", url="http://elsewhere"), spec("a", priority=5)])
    moved, stayed = world.fleet.hosts()
    assert stayed is a
    assert (a.in_flight, a.spec.priority, a.state) == (3, 5, "up")
    assert moved is not b
    assert moved.state == "unknown"
    assert world.names("m") == ["a"]
    assert world.news == ["b unknown", "a up", "b down"], "the last is who left: nobody need wait for him"
    world.fleet.saw(b, told("other"))
    world.fail(host=b)
    world.request(Unreachable("no"), host=b)
    assert world.names("other") == []
    assert moved.state == "unknown", "nobody hears of who has left"


def test_nothing_new_is_no_news() -> None:
    world = World(spec("a"))
    world.news.clear()
    world.fleet.adopt([spec("a")])
    assert world.news == []


def test_models_are_found_whoever_has_them_and_as_it_changes() -> None:
    world = World(spec("a"), spec("b"))
    a, b = world.fleet.hosts()
    world.fleet.saw(a, told("m", "n:7b"))
    world.fleet.saw(b, told("m:latest"))
    assert (world.names("m"), world.names("m:latest"), world.names("n:7b"), world.names("n")) == (
        ["a", "b"],
        ["a", "b"],
        ["a"],
        [],
    )
    world.fleet.saw(a, told("n:7b"))
    assert world.names("m") == ["b"]
    world.fail(host=b)
    assert world.names("m") == ["b"], "what was known stays while it is down"
    world.fleet.adopt([spec("a")])
    assert world.names("m") == []


def test_whose_models_are_offered_under_their_bare_names() -> None:
    world = World(
        spec("kept"),
        spec("filed", registered=False),
        spec("listed", registered=False, models=("m", "extra")),
        ServerSpec(name="local", url="", kind="local", id="id-local"),
    )
    for host in world.fleet.hosts():
        world.fleet.saw(host, told("m", "other"))
    assert world.names("m") == ["kept", "listed", "local"]
    assert world.names("extra") == ["listed"], "a table is believed"
    assert world.names("other") == ["kept", "local"], "and no more is offered than it lists"
    assert world.fleet.hosts()[1].holds("other:latest") is not None


def test_a_table_is_believed_before_anybody_was_asked() -> None:
    world = World(spec("listed", models=("m",)))
    assert world.names("m") == ["listed"]
    assert world.far.state == "unknown"


def test_what_was_written_down_is_believed_before_anybody_was_asked() -> None:
    world = World(spec("a", id="1"))
    rows = [
        ModelRow(id="r", server_id="1", model="m:latest", name="m", digest="d" * 64, told=("tools", "wings")),
        ModelRow(id="s", server_id="1", model="gone:latest", name="gone", present=False),
        ModelRow(id="t", server_id="1", model="off:latest", name="off", is_active=False),
    ]
    world.fleet.restrict(rows)
    assert [world.names(name) for name in ("m", "gone", "off")] == [["a"], [], []]
    held = world.far.holds("m:latest")
    assert held is not None
    assert (held.digest, held.capabilities, world.far.is_warm("m:latest")) == ("d" * 64, frozenset({"tools"}), None)
    assert (world.far.state, world.fleet.told(world.far)) == ("unknown", None), "it has told nothing"
    world.fleet.saw(world.far, told("other"))
    assert (world.names("m"), world.names("other")) == ([], ["a"]), "what it tells counts"
    world.fleet.restrict(rows)
    assert world.names("m") == []


def test_its_owner_has_the_last_word_on_a_model() -> None:
    world = World(spec("a", id="1"))
    row = ModelRow(id="r", server_id="1", model="m:latest", name="m")
    other = ModelRow(id="r2", server_id="1", model="n:latest", name="n", is_active=False)
    world.fleet.restrict([row, other])
    found = Told((model("m:latest", "d" * 64, capabilities=("tools",)), model("n:latest")), version="1.2")
    world.fleet.saw(world.far, found)
    assert (world.names("m"), world.names("n")) == (["a"], [])
    assert world.fleet.told(world.far) is found, "what it told is all there for whoever writes it down"
    chosen = ModelRow(id="r", server_id="1", model="m:latest", name="m", capabilities=("code",), priority=7)
    world.fleet.restrict([chosen])
    assert world.names("n") == ["a"]
    held = world.far.holds("m:latest")
    assert held is not None
    assert (held.capabilities, held.priority, held.digest) == (frozenset({"code", "tools"}), 7, "d" * 64)
    assert world.far.sight is not None
    assert (world.far.sight.version, world.far.sight.at) == ("1.2", 100.0), "that is when it was asked"


def test_what_is_in_memory() -> None:
    world = World(spec())
    assert world.far.is_warm("m:latest") is None
    world.fleet.saw(world.far, told("m"))
    assert world.far.is_warm("m:latest") is None
    world.fleet.saw(world.far, told("m", "n", running=("m:latest",)))
    assert (world.far.is_warm("m:latest"), world.far.is_warm("n:latest")) == (True, False)


def test_a_dead_server_costs_five_requests() -> None:
    world = World(spec())
    world.fleet.saw(world.far, told("m"))
    for left in range(IN_A_ROW, 0, -1):
        assert world.far.state == "up", left
        world.request(Unreachable("the server cannot be reached"))
    assert (world.far.state, world.far.failure) == ("down", "the server cannot be reached")


@pytest.mark.parametrize("error", [BackendError("500"), StreamCut("cut"), Unanswered("closed"), BackendTimeout("…")])
def test_a_broken_model_does_not_close_a_server_that_answers(error: LocalModelsError) -> None:
    world = World(spec())
    world.fleet.saw(world.far, told("bad", "good"))
    for _ in range(3 * IN_A_ROW):
        world.request(error, model="bad:latest")
        world.seconds += 0.01
        world.request(model="good:latest")
        assert world.far.state == "up"
    assert world.fleet.given_up("bad:latest") == {("id-far", "bad:latest")}
    assert world.fleet.given_up("good:latest") == frozenset()
    world.request(model="bad:latest")
    assert world.fleet.given_up("bad:latest") == frozenset()


def test_a_server_of_which_several_models_break_is_given_up_and_no_connection_is_never_the_model_s_fault() -> None:
    world = World(spec())
    for model in ("m:latest", "n:latest"):
        assert world.far.state != "down"
        for _ in range(IN_A_ROW):
            world.request(BackendError("500"), model=model)
    assert (world.far.state, world.far.failure) == ("down", "500")
    world = World(spec())
    for _ in range(IN_A_ROW):
        assert world.far.state != "down"
        world.request(Unreachable("no"), model="m:latest")
    assert (world.far.state, world.fleet.given_up("m:latest")) == ("down", frozenset())


def test_what_a_server_says_in_its_errors_is_not_logged_when_a_model_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(spec(key=Secret(KEY)))
    for _ in range(IN_A_ROW):
        world.request(BackendError(f"Bearer {KEY} may not ask how to bake bread"), model="m:latest")
    assert [record.getMessage() for record in caplog.records] == [
        f"the model 'm:latest' is given up on the server 'far': {BackendError.code}"
    ]


def test_a_try_that_finds_no_connection_lets_another_try() -> None:
    world = World(spec())
    for _ in range(IN_A_ROW):
        world.request(BackendError("500"), model="m:latest")
    assert world.fleet.given_up() == {("id-far", "m:latest")}
    assert world.fleet.given_up(last=True) == frozenset()
    tries = [world.fleet.began(world.far, "m:latest") for _ in range(3)]
    assert [(one.is_try, one.is_late) for one in tries] == [(True, False), (False, True), (False, True)]
    assert world.fleet.given_up(last=True) == {("id-far", "m:latest")}
    tries[0].ended(Unreachable("no"))
    assert world.fleet.began(world.far, "m:latest").is_try
    assert not world.fleet.began(world.far, "n:latest").is_late


def test_of_who_has_left_no_failures_are_kept() -> None:
    world = World(spec("a"), spec("b"))
    world.request(BackendError("500"), model="m:latest")
    world.fleet.adopt([spec("b")])
    assert not world.fleet._copies


def test_that_a_model_has_begun_to_fail_is_news_once() -> None:
    world = World(spec())
    world.fleet.saw(world.far, told("m"))
    world.news.clear()
    for _ in range(2):
        world.request(StreamCut("cut"), model="m:latest")
    assert (world.news, world.fleet.is_doubted(world.far)) == (["far up"], True)
    world.request(model="m:latest")
    assert (world.news, world.fleet.is_doubted(world.far)) == (["far up"] * 2, False)


def test_a_known_broken_model_is_no_proof_against_a_server_that_came_back() -> None:
    world = World(spec())
    for _ in range(IN_A_ROW):
        world.request(BackendError("500"), model="bad:latest")
    for _ in range(IN_A_ROW):
        world.request(Unreachable("no"))
    world.fleet.saw(world.far, told("bad", "good"))
    assert (world.far.state, world.far.proving) == ("trying", False)
    world.request(BackendError("500"), model="bad:latest")
    assert (world.far.state, world.far.proving) == ("trying", False), "another may prove it"
    world.request(BackendError("500"), model="other:latest")
    assert (world.far.state, world.far.proving) == ("down", False)


def test_the_last_resort_is_one_try_at_a_time_and_nobody_whom_a_probe_found_dead() -> None:
    world = World(spec("a"), spec("b"), spec("c", is_active=False))
    a, b, _ = hosts = world.fleet.hosts()

    def dared() -> list[Host]:
        return [host for host in hosts if world.fleet.may_be_dared(host)]

    for host in hosts:
        for _ in range(IN_A_ROW):
            world.request(Unreachable("no"), host=host)
    world.fail(host=b)
    assert world.fleet.healing(b, "m:latest") is None
    assert dared() == [a]
    assert [host.state for host in hosts] == ["down"] * 3, "to ask changes nothing"
    world.fleet.dare(a)
    assert (a.state, dared()) == ("trying", [])
    world.request(Unreachable("no"), host=a)
    assert dared() == []
    assert world.fleet.healing(a, "m:latest") == DARE
    world.seconds += DARE
    assert dared() == [a]
    world.fleet.dare(a)
    world.request(host=a)
    assert (a.state, world.fleet.healing(a, "m:latest")) == ("up", 0.0)


def test_a_probe_that_fails_is_enough_and_a_good_one_gives_one_request_a_try() -> None:
    world = World(spec(max_concurrent=4))
    world.fleet.saw(world.far, told("m"))
    world.fail()
    assert (world.far.state, world.far.failure) == ("down", "the server cannot be reached")
    assert world.far.checked_at == round(world.seconds * SECOND)
    world.fleet.saw(world.far, told("m"))
    assert (world.far.state, world.far.failure, world.far.free) == ("trying", "", True)
    proof, other = world.fleet.began(world.far), world.fleet.began(world.far)
    assert (proof.is_proof, other.is_proof, world.far.free) == (True, False, False)
    proof.answered()
    assert (world.far.state, world.far.free) == ("up", True)
    proof.ended()
    proof.ended(Unreachable("said twice"))
    other.ended(InvalidRequest("nobody's fault there"))
    assert world.far.state == "up"


def test_an_answer_is_newer_than_a_probe_that_began_before_it() -> None:
    world = World(spec())
    began = world.seconds
    world.seconds += 3
    world.request()
    states = []
    for since in (began, world.seconds):
        world.fleet.failed(world.far, BackendTimeout("busy with that very answer, or silent since"), since)
        states.append(world.far.state)
    assert states == ["up", "down"]


def test_who_is_too_busy_to_tell_is_well() -> None:
    world = World(spec(kind="openai"))
    world.fail(RateLimited("slower, please"))
    assert world.far.state == "up"
    assert world.far.sight is None


@pytest.mark.parametrize("said", [f"no {KEY}", KEY])
def test_our_key_is_never_said(said: str) -> None:
    world = World(spec(key=Secret(KEY)))
    world.fail(Unreachable(said))
    assert KEY not in world.far.failure
    assert world.far.failure


def test_news_of_what_others_wait_for() -> None:
    world = World(spec())
    world.fleet.saw(world.far, told("m", running=()))
    world.news.clear()
    world.request(Unreachable("first"))
    world.request(Unreachable("second"))
    assert world.news == ["far up"], "the first failure, and not every one"
    world.request()
    assert world.news == ["far up"] * 2, "it answers again"
    world.request()
    assert len(world.news) == 2
    world.fleet.began(world.far, "m:latest").ended()
    assert len(world.news) == 3, "a model will be loaded"
    world.fail()
    assert world.news[3:] == ["far down"]


def test_who_listens_no_more_hears_nothing() -> None:
    world = World(spec())
    heard: list[Host] = []
    deaf = world.fleet.listen(heard.append)
    world.fail()
    deaf()
    world.fleet.saw(world.far, told())
    assert len(heard) == 1


def test_what_others_have_under_way_counts_for_as_long_as_they_say_it() -> None:
    world = World(spec("a", max_concurrent=4), spec("b"))
    a, b = world.fleet.hosts()
    now = round(world.seconds * SECOND)
    stale = now - round((FRESH_LOADS + 1) * SECOND)
    said = [
        Loads("g1", now - SECOND, {"id-a": 1}),
        Loads("g1", now, {"id-a": 3, "id-gone": 5}),
        Loads("g2", now, {"id-b": 2, "id-a": -7}),
        Loads("g3", stale, {"id-a": 9}),
    ]
    world.fleet.elsewhere(said)
    assert (a.elsewhere, b.elsewhere) == (3, 2)
    a.in_flight = 1
    assert not a.free
    world.news.clear()
    world.seconds += FRESH_LOADS + 1
    world.fleet.elsewhere(said)
    assert (a.elsewhere, a.free) == (0, True)
    assert world.news == ["a unknown", "b unknown"], "there is room again"


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcd"), st.booleans()), max_size=40))
def test_the_index_is_what_the_hosts_hold(steps: list[tuple[int, str, bool]]) -> None:
    specs = [spec(f"s{number}", id=str(number)) for number in range(4)]
    world = World(*specs)
    rows: list[ModelRow] = []
    for number, name, on in steps:
        host = world.fleet.host(str(number))
        if host is None:
            world.fleet.adopt(specs)
        elif name == "d":
            world.fleet.adopt([one for one in specs if one.id != str(number)])
        elif on:
            world.fleet.saw(host, told(*{"m", name}))
        else:
            rows = [ModelRow(id=name, server_id=str(number), model=name, name=name, is_active=False)]
            world.fleet.restrict(rows)
    for name in ("a:latest", "b:latest", "c:latest", "d:latest", "m:latest"):
        assert list(world.fleet.holders(name)) == [host for host in world.fleet.hosts() if host.holds(name)]


def test_one_that_leads_back_to_us_holds_nothing() -> None:
    world = World(spec("a"), spec("b", models=("m",), registered=False))
    for host in world.fleet.hosts():
        world.fleet.saw(host, told("m"))
        world.fail(LoopDetected("it is we"), host)
        assert (host.state, host.failure, host.sight) == ("down", "it is we", None)
    assert world.names("m") == []
    world.fleet.saw(world.far, told("m"))
    assert world.names("m") == ["a"], "until it is another"


def test_what_a_gateway_has_is_had_through_it() -> None:
    world = World(spec("a"), spec("b", models=("t",), registered=False))
    led = (model("own"), model("far", gateways=("them", "others")))
    running = tuple(Running(one, "running", 0, 1, 0, "", 0) for one in (*led, model("own", gateways=("longer",))))
    for host in world.fleet.hosts():
        world.fleet.saw(host, Told(led, running=running, gateway="them"))
    sight = world.far.sight
    assert sight is not None
    assert (world.far.gateway, sight.holdings["own:latest"].gateways) == ("them", ("them",))
    assert sight.holdings["far:latest"].gateways == ("them", "others")
    assert sight.loaded is not None
    assert {name: one.gateways for name, one in sight.loaded.items()} == {
        "own:latest": ("them",),
        "far:latest": ("them", "others"),
    }
    holding = world.fleet.hosts()[1].holds("t:latest")
    assert holding is not None
    assert holding.gateways == ("them",), "also where only a table names it"


def test_how_long_a_host_has_been_silent() -> None:
    world = World(spec("a", models=("m",)))
    assert world.fleet.silence(world.far) is None, "a table is not its own word"
    world.fleet.saw(world.far, told("m"))
    world.seconds += 7
    assert world.fleet.silence(world.far) == 7
    world.fail()
    assert world.fleet.silence(world.far) == 8
    world.fleet.saw(world.far, told("m"))
    assert world.fleet.silence(world.far) == 0


@pytest.mark.parametrize(
    ("error", "fields", "words"),
    [
        (
            Unauthenticated(f"no {KEY}"),
            {"key": Secret(KEY)},
            "it refuses our key; `localmodels servers set far --key-file FILE` gives it another",
        ),
        (
            Unauthenticated("who?"),
            {},
            "it asks for a key; `localmodels servers set far --key-file FILE` gives it one",
        ),
        (
            Unauthenticated("who?"),
            {"registered": False},
            "it asks for a key; key_file or key_env in the file of settings gives it one",
        ),
        (Forbidden(f"{KEY} may not"), {"key": Secret(KEY)}, "it does not allow us this: *** may not"),
        (
            Forbidden(f"{KEY} needs the scope 'list'"),
            {"key": Secret(KEY)},
            (
                "it does not allow us this: our key lacks the scope 'list': on its machine `localmodels keys add NAME "
                "--scopes infer,list` makes one that has it, and here `localmodels servers set far --key-file FILE` "
                "gives it that"
            ),
        ),
    ],
)
def test_a_key_that_is_missing_refused_or_too_small_is_told_apart(
    error: LocalModelsError, fields: dict[str, Any], words: str
) -> None:
    world = World(spec(**fields))
    world.fail(error)
    assert (world.far.state, world.far.failure) == ("down", words)


def test_what_a_table_listed_is_gone_with_the_table() -> None:
    world = World(spec("a", registered=False, models=("m",)), spec("b"))
    world.fleet.restrict([ModelRow(id="1", server_id="id-b", model="n", name="n", present=True)])
    assert (world.names("m"), world.names("n")) == (["a"], ["b"])
    world.fleet.adopt([spec("a", registered=False), spec("b")])
    world.fleet.restrict([])
    assert (world.names("m"), world.names("n")) == ([], []), "neither has told of any"
    assert [host.sight for host in world.fleet.hosts()] == [None, None]
