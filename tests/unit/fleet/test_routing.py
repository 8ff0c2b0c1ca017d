"""Where a request goes: cases of each policy, and what holds under all of them."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace
from tests.unit.fleet.standing import GB, host, names

from localmodels.fleet.affinity import Affinity, Prefix
from localmodels.fleet.hosts import Holding, Host
from localmodels.fleet.routing import POLICIES, Ask, decide, explain
from localmodels.fleet.turns import Turns

PROMPT: Prefix = ((11, 500), (12, 1000), (13, 2000))
BIG = Holding("m", size=8 * GB)


def held(**tokens: int) -> Affinity:
    """These hosts have been sent so much of the prompt."""
    affinity = Affinity()
    for name, count in tokens.items():
        affinity.remember(tuple(mark for mark in PROMPT if mark[1] <= count), name)
    return affinity


def order(*hosts: Host, policy: str = "auto", affinity: Affinity | None = None, turn: int = 0, **ask: object) -> str:
    """The names of the hosts in the order in which they would be asked."""
    return " ".join(names(decide(Ask(model="m", **ask), hosts, policy, affinity, turn)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        pytest.param([host("a", busy=3), host("b"), host("c", busy=1)], "b c a", id="who has least to do"),
        pytest.param([host("a", elsewhere=2), host("b", busy=1)], "b a", id="requests of other gateways count"),
        pytest.param([host("a", busy=4), host("b", busy=3)], "b a", id="a free place before none"),
        pytest.param([host("a", busy=1, elsewhere=3), host("b", busy=3)], "b a", id="others may have filled it"),
        pytest.param([host("a", busy=5, most=0), host("b", busy=4)], "a b", id="without a limit there is a place"),
        pytest.param([host("a", busy=20, most=0), host("b", busy=1)], "b a", id="and still it can be crowded"),
        pytest.param([host("a", busy=2, most=8), host("b", busy=1, most=2)], "a b", id="for what it can do at once"),
        pytest.param(
            [host("a", BIG, busy=4, loaded=()), host("b", BIG, busy=4, loaded="m", waiting=9)],
            "b a",
            id="among full ones the same, since who waits does so for all of them",
        ),
        pytest.param([host("a", weight=0.5), host("b", weight=2)], "b a", id="the faster one"),
        pytest.param([host("a"), host("b", default=True)], "b a", id="the default among equals"),
        pytest.param([host("a"), host("b", busy=1, default=True)], "a b", id="and only among equals"),
        pytest.param([host("a"), host("b", busy=3, priority=1)], "b a", id="priority before all"),
        pytest.param([host("a"), host("b", busy=4, priority=1)], "a b", id="unless no place is left there"),
        pytest.param(
            [host("a", priority=-1), host("b"), host("c", Holding("m", priority=1))], "c b a", id="then of the copy"
        ),
        pytest.param(
            [host("a", Holding("m", priority=9)), host("b", priority=1)], "b a", id="the host's before the copy's"
        ),
        pytest.param([host("a"), host("b", Holding("m", priority=1), busy=3)], "b a", id="that of the copy alone, too"),
        pytest.param([host("a", BIG, loaded=()), host("b", BIG, busy=3, loaded="m")], "b a", id="warm before cold"),
        pytest.param([host("a", BIG, loaded=()), host("b", BIG)], "b a", id="who does not tell is not taken for cold"),
        pytest.param(
            [host("a", Holding("m", size=9 * GB), loaded=()), host("b", Holding("m", size=GB), loaded=())],
            "b a",
            id="what is loaded sooner",
        ),
        pytest.param(
            [host("a", BIG, loaded=(), memory=GB), host("b", BIG, loaded=(), memory=9 * GB)],
            "b a",
            id="where nothing has to leave for it",
        ),
        pytest.param([host("a", loaded=()), host("b", BIG, loaded=())], "a b", id="an untold size is a usual one"),
        pytest.param([host("a"), host("b", state="unknown", busy=0), host("c", busy=1)], "a b c", id="never asked"),
    ],
)
def test_auto_goes_by_the_time_to_the_first_token(hosts: list[Host], expected: str) -> None:
    assert order(*hosts) == expected


def test_a_model_that_is_being_loaded_for_others_is_not_cold() -> None:
    loading = host("b", BIG, busy=1, loaded=())
    loading.asked = {"m:latest": 1}
    assert order(host("a", BIG, loaded=()), loading) == "b a"


@pytest.mark.parametrize(
    ("hosts", "tokens", "expected"),
    [
        pytest.param([host("a"), host("b")], {"b": 2000}, "b a", id="who holds the prompt"),
        pytest.param([host("a"), host("b"), host("c")], {"b": 1000, "c": 2000}, "c b a", id="more of it"),
        pytest.param([host("a"), host("b", busy=3)], {"b": 2000}, "b a", id="though it is busier"),
        pytest.param([host("a"), host("b", busy=4)], {"b": 2000}, "a b", id="but not when it is full"),
        pytest.param([host("a", weight=8), host("b", busy=3)], {"b": 500}, "a b", id="nor where reading it is quick"),
        pytest.param([host("a"), host("b", BIG, loaded=())], {"b": 2000}, "a b", id="a cold model has lost it"),
        pytest.param([host("a", busy=1), host("b")], {"a": 2000, "b": 2000}, "b a", id="both: the less busy"),
    ],
)
def test_auto_goes_where_the_prompt_was_read(hosts: list[Host], tokens: dict[str, int], expected: str) -> None:
    assert order(*hosts, affinity=held(**tokens), prefix=PROMPT) == expected


def test_a_hot_prompt_spreads_when_its_host_is_full_and_is_at_home_there_too() -> None:
    hosts, affinity = [host(name, most=2) for name in "abc"], Affinity()
    went = []
    for turn in range(6):
        first = decide(Ask("m", prefix=PROMPT), hosts, "auto", affinity, turn)[0]
        affinity.remember(PROMPT, first.id)
        first.host.in_flight += 1
        went.append(first.id)
    assert went[0] == went[1]
    assert Counter(went) == {"a": 2, "b": 2, "c": 2}


def test_a_short_prompt_is_not_worth_a_crowd() -> None:
    short = ((1, 60),)
    affinity = Affinity()
    affinity.remember(short, "a")
    assert order(host("a", busy=3), host("b"), affinity=affinity, prefix=short) == "b a"


@pytest.mark.parametrize(
    ("policy", "hosts", "expected"),
    [
        ("priority", [host("a"), host("b", priority=2, busy=4), host("c", priority=1)], "b c a"),
        ("priority", [host("a", busy=1), host("b"), host("c", busy=3, default=True)], "c b a"),
        ("priority", [host("a", busy=4, default=True), host("b", busy=3)], "b a"),
        ("least_busy", [host("a", busy=2), host("b", busy=1), host("c", busy=1, most=8)], "c b a"),
        ("least_busy", [host("a", BIG, loaded=()), host("b", BIG, busy=1, loaded="m")], "a b"),
        ("least_busy", [host("a", busy=2, priority=5), host("b", busy=1)], "b a"),
        ("least_busy", [host("a", busy=1, weight=4), host("b", busy=1)], "a b"),
        ("least_busy", [host("a", busy=4, weight=9), host("b", busy=3)], "b a"),
        ("prefix", [host("a"), host("b", busy=3), host("c", busy=2)], "b c a"),
        ("prefix", [host("a", busy=1), host("b", busy=4), host("c", busy=4)], "a b c"),
    ],
)
def test_the_other_policies(policy: str, hosts: list[Host], expected: str) -> None:
    assert order(*hosts, policy=policy, affinity=held(b=2000, c=500), prefix=PROMPT) == expected


def test_round_robin_goes_round() -> None:
    hosts = [host("a", busy=3), host("b"), host("c", priority=7)]
    assert [order(*hosts, policy="round_robin", turn=turn) for turn in range(4)] == ["a b c", "b c a", "c a b", "a b c"]


def test_round_robin_asks_each_as_often_as_it_weighs() -> None:
    hosts = [host("a", weight=1), host("b", weight=3), host("c", weight=0.5)]
    first = Counter(order(*hosts, policy="round_robin", turn=turn)[0] for turn in range(4500))
    assert first["a"] == pytest.approx(1000, abs=15)
    assert first["b"] == pytest.approx(3000, abs=15)
    assert first["c"] == pytest.approx(500, abs=15)


@pytest.mark.parametrize("policy", ["auto", "priority", "least_busy", "prefix"])
def test_equals_take_turns(policy: str) -> None:
    hosts = [host(name) for name in "abcd"]
    assert Counter(order(*hosts, policy=policy, turn=turn)[0] for turn in range(40)) == dict.fromkeys("abcd", 10)


@pytest.mark.parametrize("policy", POLICIES)
class TestUnderEveryPolicy:
    def test_only_hosts_that_can_be_asked_are(self, policy: str) -> None:
        silent = host("silent")
        silent.sight = None
        hosts = [
            host("down", state="down"),
            host("off", active=False),
            host("other", "n"),
            host("failed"),
            silent,
            host("a"),
        ]
        assert order(*hosts, policy=policy, excluded=frozenset({"failed"})) == "a"

    def test_nobody_is_an_answer(self, policy: str) -> None:
        assert decide(Ask("m"), [], policy) == ()
        assert decide(Ask("m"), [host("a", "n")], policy) == ()

    def test_a_host_that_was_down_goes_first_until_it_has_its_one_request(self, policy: str) -> None:
        others = [host("a", default=True), host("b")]
        assert order(*others, host("c", state="trying"), policy=policy)[0] == "c"
        proving = order(*others, host("c", state="trying", busy=1), policy=policy)
        assert policy == "round_robin" or proving[-1] == "c"

    def test_it_does_not_prove_itself_by_what_may_be_tried_only_once(self, policy: str) -> None:
        for turn in range(3):
            hosts = [host("a", busy=3), host("c", state="trying"), host("b")]
            assert order(*hosts, policy=policy, turn=turn, once=True)[-1] == "c"

    def test_the_copy_that_most_hosts_have_goes_first(self, policy: str) -> None:
        old, new = Holding("m", digest="01"), Holding("m", digest="02")
        hosts = [host("a", old), host("b", new, busy=3), host("c", new, busy=2), host("d", "m")]
        for turn in range(4):
            assert order(*hosts, policy=policy, turn=turn)[-1] == "a"

    def test_also_while_those_that_have_it_are_down(self, policy: str) -> None:
        old, new = Holding("m", digest="01"), Holding("m", digest="02")
        down = [host(name, new, state="down") for name in "xy"]
        hosts = [host("a", old), host("b", old), host("c", new, busy=3), *down]
        for turn in range(3):
            assert order(*hosts, policy=policy, turn=turn)[0] == "c"

    def test_where_as_many_have_one_as_the_other_the_first_is_meant_as_in_lists(self, policy: str) -> None:
        hosts = [host("a", Holding("m", digest="02"), busy=3), host("b", Holding("m", digest="01")), host("c", "m")]
        for turn in range(4):
            assert order(*hosts, policy=policy, turn=turn)[-1] == "b", "who does not tell may have the same"

    def test_what_this_machine_has_is_meant_before_what_most_have(self, policy: str) -> None:
        theirs = [host(name, Holding("m", digest="01")) for name in "ab"]
        own = host("own", Holding("m", digest="02"), busy=3)
        own.spec = replace(own.spec, kind="local")
        for turn in range(4):
            assert order(*theirs, own, policy=policy, turn=turn).split()[0] == "own"
        nameless = host("own", "m")
        nameless.spec = replace(nameless.spec, kind="local")
        assert order(*theirs, host("c", Holding("m", digest="03")), nameless, policy=policy)[-1] == "c"

    def test_a_conversation_stays_at_home(self, policy: str) -> None:
        hosts = [host("a", default=True, priority=1), host("b", busy=3), host("c")]
        for turn in range(3):
            assert order(*hosts, policy=policy, turn=turn, sticky="b")[0] == "b"

    def test_unless_home_is_full_and_others_are_not(self, policy: str) -> None:
        full = [host("b", busy=4), host("a", busy=4, priority=1)]
        assert order(*full, policy=policy, sticky="b")[0] == "b"
        # Under round robin the order says nothing of free places: who gives them out passes over who has none.
        if policy != "round_robin":
            assert order(host("b", busy=4), host("a", busy=3), policy=policy, sticky="b")[0] == "a"

    @pytest.mark.parametrize("home", [host("h", state="down"), host("h", "n"), host("h", active=False)])
    def test_unless_home_cannot_be_asked(self, policy: str, home: Host) -> None:
        assert order(home, host("a"), policy=policy, sticky="h") == "a"

    def test_unless_home_has_yet_to_prove_itself(self, policy: str) -> None:
        hosts = [host("h", state="trying"), host("a")]
        for turn in range(2):
            assert order(*hosts, policy=policy, turn=turn, sticky="h", once=True) == "a h"

    def test_what_may_not_be_asked_is_told_with_its_reason(self, policy: str) -> None:
        down, silent = host("down", state="down"), host("silent")
        down.failure, silent.sight = "connection refused", None
        told = explain(
            Ask("m", excluded=frozenset({"failed"}), rests=frozenset({("rests", "m:latest"), ("a", "n:latest")})),
            [host("a"), down, silent, host("off", active=False), host("failed"), host("rests"), host("other", "n")],
            policy,
        )
        assert (told.model, told.policy, names(told.targets)) == ("m:latest", policy, ["a"])
        assert {one.host.spec.name: one.reason for one in told.left_out} == {
            "down": "is down: connection refused",
            "silent": "has not told its models yet",
            "off": "is switched off",
            "failed": "rests: requests for this model have failed there",
            "rests": "rests: requests for this model have failed there",
            "other": "does not have m:latest",
        }

    def test_a_model_that_is_switched_off_is_not_said_to_be_missing(self, policy: str) -> None:
        told = explain(Ask("m"), [host("a"), host("b", "n"), host("c", "n")], policy, off={"b": {"m:latest"}})
        assert {one.host.spec.name: one.reason for one in told.left_out} == {
            "b": "m:latest is switched off there: localmodels models set b/m:latest --active",
            "c": "does not have m:latest",
        }

    def test_who_is_dared_is_asked_though_he_is_down_and_says_why(self, policy: str) -> None:
        hosts = [host("a", state="down"), host("b", state="down"), host("c", "n", state="down")]
        (told,) = decide(Ask("m", dared=frozenset({"b", "c"})), hosts, policy)
        assert (told.id, "proves itself" in told.reason) == ("b", True)

    def test_names_are_compared_with_their_tags(self, policy: str) -> None:
        hosts = [host("a", "m:latest"), host("b", "m"), host("c", "m:7b")]
        assert {(one.id, one.model) for one in decide(Ask("m"), hosts, policy)} == {("a", "m:latest"), ("b", "m")}
        assert names(decide(Ask("m:7b"), hosts, policy)) == ["c"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (host("a", loaded="m", busy=1), "auto; warm, prefix 1000/2000, 1 of 4 busy"),
        (host("b", loaded=()), "auto; cold, 0 of 4 busy"),
        (host("c", priority=5, busy=2, elsewhere=1, most=0), "auto; priority 5, 3 busy"),
        (host("d", state="trying"), "auto; proves itself, 0 of 4 busy"),
        (host("home"), "auto; session, 0 of 4 busy"),
    ],
)
def test_the_reason_is_one_line(target: Host, reason: str) -> None:
    (told,) = decide(Ask("m", prefix=PROMPT, sticky="home"), [target], "auto", held(a=1000, b=1000))
    assert told.reason == reason


def test_the_reason_names_the_model_where_the_choice_of_it_was_ours() -> None:
    (told,) = decide(Ask("auto"), [host("a", loaded="m")])
    assert told.reason == "auto; m:latest, warm, 0 of 4 busy"


@pytest.mark.parametrize("policy", ["auto", "prefix"])
def test_a_model_that_is_being_loaded_is_warm_to_the_decision_and_to_its_reason(policy: str) -> None:
    loading, cold = host("a", BIG, loaded=()), host("b", BIG, loaded=())
    loading.asked = {"m:latest": 1}
    hosts, affinity = [cold, loading], held(a=1000, b=1000)
    for turn in range(2):
        first, second = decide(Ask("m", prefix=PROMPT), hosts, policy, affinity, turn)
        assert first.reason == f"{policy}; warm, prefix 1000/2000, 0 of 4 busy"
        assert second.reason == f"{policy}; cold, 0 of 4 busy"


def test_what_is_asked_there_is_warm_also_where_nothing_is_told() -> None:
    silent = host("a")
    assert silent.warmth("m:latest") is None
    silent.asked = {"m:latest": 1}
    assert (silent.warmth("m:latest"), silent.is_warm("m:latest"), silent.warmth("n:latest")) == (True, None, None)


def test_places_that_are_the_part_of_others_are_none() -> None:
    kept = host("a", busy=1, elsewhere=1)
    kept.kept = 3
    free, full = decide(Ask("m"), [kept, host("b", busy=3)])
    assert (free.id, full.id, full.free, full.reason) == ("b", "a", False, "auto; 4 of 4 busy")
    assert (kept.taken, kept.free) == (4, False)
    kept.kept = 0
    assert (kept.taken, kept.free) == (2, True), "those that they have are taken"
    kept.elsewhere = 0
    assert kept.taken == 1


def test_what_a_target_tells_is_how_the_host_was() -> None:
    one, turns = host("a", loaded=()), Turns()
    (target,) = decide(Ask("m"), [one])
    assert turns.ask([one], model="m:latest") is one
    assert (one.warmth("m:latest"), target.warm) == (True, False), "the request itself is no reason to go there"
    (later,) = decide(Ask("m"), [one])
    turns.give_back(one, "m:latest")
    assert (one.warmth("m:latest"), later.warm) == (False, True)
    one.in_flight, one.sight = 4, None
    assert (target.busy, target.free, target.warm, target.reason) == (0, True, False, "auto; cold, 0 of 4 busy")


@pytest.mark.parametrize(
    ("hosts", "ask", "model", "expected"),
    [
        pytest.param(
            [host("a", Holding("z", capabilities=frozenset({"completion"}))), host("b", "e")],
            Ask("auto"),
            "z:latest",
            "a",
            id="what the default of them has",
        ),
        pytest.param(
            [host("a", "m", "n", loaded="n"), host("b", "n", "m")], Ask("auto"), "n:latest", "b a", id="what is loaded"
        ),
        pytest.param(
            [host("a", "n", loaded="n", busy=4), host("b", "m")], Ask("auto"), "m:latest", "b", id="where a place is"
        ),
        pytest.param(
            [host("a", "n", loaded="n"), host("b", "m", priority=1)], Ask("auto"), "m:latest", "b", id="priority first"
        ),
        pytest.param(
            [host("a", "m"), host("b", "n"), host("c", "n", default=True)],
            Ask("auto"),
            "n:latest",
            "c b",
            id="the default host's",
        ),
        pytest.param(
            [host("a", "m", "z", loaded=("m", "z")), host("b", "z", loaded="z")],
            Ask("auto"),
            "z:latest",
            "a b",
            id="what most have in memory",
        ),
        pytest.param(
            [host("a", "m", Holding("z", priority=1))], Ask("auto"), "z:latest", "a", id="the copy that is preferred"
        ),
        pytest.param(
            [
                host("a", Holding("e", capabilities=frozenset({"embedding"})), loaded="e"),
                host("b", Holding("m", capabilities=frozenset({"completion"})), loaded=()),
            ],
            Ask("auto"),
            "m:latest",
            "b",
            id="what can hold a conversation",
        ),
        pytest.param(
            [
                host("a", Holding("e", capabilities=frozenset({"embedding"})), loaded=()),
                host("b", Holding("m", capabilities=frozenset({"completion"})), loaded="m"),
            ],
            Ask("auto", call="embed"),
            "e:latest",
            "a",
            id="what makes vectors",
        ),
        pytest.param(
            [host("a", "m"), host("b", Holding("n", capabilities=frozenset({"code"}))), host("c", "n")],
            Ask("auto:code"),
            "n:latest",
            "b",
            id="the owner's word about the model",
        ),
        pytest.param(
            [host("a", "m"), host("b", "n", capabilities=("code",)), host("c", "n")],
            Ask("auto:code"),
            "n:latest",
            "b",
            id="or about the host",
        ),
        pytest.param(
            [
                host("a", Holding("m", capabilities=frozenset({"code"}))),
                host("b", Holding("n", capabilities=frozenset({"code", "vision"}))),
            ],
            Ask("auto:code", capability="vision"),
            "n:latest",
            "b",
            id="both words",
        ),
        pytest.param([host("a", "m"), host("b", "auto")], Ask("auto"), "auto:latest", "b", id="a model of that name"),
        pytest.param([host("a", "m")], Ask("auto:latest"), "m:latest", "a", id="with its tag written out"),
        pytest.param([host("a", "auto:code")], Ask("auto:code"), "auto:code", "a", id="and of that one"),
        pytest.param([host("a", "m"), host("b", "autobahn")], Ask("autobahn"), "autobahn:latest", "b", id="another"),
        pytest.param([host("a", "m")], Ask("auto:code"), "", "", id="nothing"),
        pytest.param(
            [host("a", "m", state="down"), host("b", "n")], Ask("auto"), "n:latest", "b", id="not what is down"
        ),
        pytest.param(
            [host("a", "m"), host("b", "n")], Ask("auto", excluded=frozenset({"a"})), "n:latest", "b", id="nor failed"
        ),
        pytest.param(
            [host("a", "m"), host("b", "m", "n")],
            Ask("auto", rests=frozenset({("a", "m:latest")})),
            "m:latest",
            "b",
            id="nor the copy that rests",
        ),
        pytest.param(
            [host("a", "m", state="down"), host("b", "n", state="down")],
            Ask("auto", dared=frozenset({"b"})),
            "n:latest",
            "b",
            id="but of what is down whoever is dared",
        ),
        pytest.param([host("a", "m"), host("b", "n")], Ask("auto", sticky="b"), "n:latest", "b", id="at home"),
    ],
)
def test_auto_as_a_name_finds_a_model(hosts: list[Host], ask: Ask, model: str, expected: str) -> None:
    told = explain(ask, hosts)
    assert told.model == model
    assert sorted(names(told.targets)) == sorted(expected.split())
    assert len(told.targets) + len(told.left_out) == len(hosts)


def test_where_no_model_can_do_it_every_host_says_so() -> None:
    told = explain(Ask("auto:code"), [host("a"), host("b", state="down")])
    assert [one.reason for one in told.left_out] == ["has no model that can do this", "is down"]


def test_a_capability_beside_a_name_leaves_out_who_is_not_for_it() -> None:
    hosts = [host("a"), host("b", capabilities=("code",)), host("c", Holding("m", capabilities=frozenset({"code"})))]
    told = explain(Ask("m", capability="code"), hosts)
    assert sorted(names(told.targets)) == ["b", "c"]
    assert [(one.host.spec.name, one.reason) for one in told.left_out] == [("a", "is not said to be for code")]
