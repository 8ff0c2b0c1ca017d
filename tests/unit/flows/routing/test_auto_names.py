"""The names that leave the choice to us: listed where they mean one, for whom they are one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.unit.flows.routing.test_model_list import host

from localmodels.core.access import Caller
from localmodels.core.catalog import Capability, Model
from localmodels.fleet.hosts import Holding, Host
from localmodels.flows.routing.auto_names import left_to_us

LOCAL = host("local", kind="local", registered=False)
CHAT, CODER, EYES = frozenset({"completion"}), frozenset({"completion", "code"}), frozenset({"completion", "vision"})


def model(name: str, *capabilities: Capability, context: int = 100) -> Model:
    return Model(name, 1, "a" * 64, "", capabilities=capabilities, context_length=context)


WRITES, EMBEDS = model("writes:latest", "completion", "tools"), model("embeds:latest", "embedding")


def names(here: tuple[Model, ...] = (), *hosts: Host, passed: tuple[str, ...] = (), patterns: str = "*") -> list[str]:
    may = Caller("k", "k", models=tuple(patterns.split())).may_ask
    return [one.name for one in left_to_us(here, hosts, passed, may)]


def test_it_is_listed_where_there_is_a_fleet_or_more_than_one_model_to_choose_among() -> None:
    other = model("other:1", "completion", "tools")
    assert names((WRITES,), LOCAL) == names((WRITES, EMBEDS), LOCAL) == names((), LOCAL) == []
    assert names((WRITES, other), LOCAL) == ["auto"]
    same = host("box", Holding("writes", capabilities=CHAT | {"tools"}))
    assert names((WRITES,), LOCAL, same) == ["auto"], "which host is a choice, too"
    assert names((), LOCAL, host("box", Holding("m", capabilities=frozenset({"rerank"})))) == []
    assert names((WRITES,), LOCAL, host("file", Holding("m"), registered=False)) == [], "it chooses none of these"
    down, off = host("box", Holding("m"), state="down"), host("box", Holding("m"), is_active=False)
    assert names((), down) == names((), off) == []
    assert names((WRITES, other), host("local", kind="local", registered=False, is_active=False)) == []


def test_capabilities_are_listed_where_some_have_them_and_others_do_not() -> None:
    here = (WRITES, model("plain:1", "completion", "insert"))
    box = host("box", Holding("sees", capabilities=EYES), Holding("codes", capabilities=CODER))
    assert names(here, LOCAL, box) == ["auto", "auto:code", "auto:tools", "auto:vision"]
    special = host("box", Holding("m", capabilities=CHAT), capabilities=("law",))
    assert names(here, LOCAL, special) == ["auto", "auto:law", "auto:tools"]
    assert names((), special) == ["auto"], "where all of them can it is no choice"
    assert names((EMBEDS, WRITES), LOCAL, box)[1:] == ["auto:code", "auto:tools", "auto:vision"]


@pytest.mark.parametrize(
    ("patterns", "listed"),
    [
        ("* ", ["auto", "auto:code"]),
        ("m", []),
        ("auto m", ["auto"]),
        ("auto*", []),
        ("auto* m n", ["auto", "auto:code"]),
        ("auto:code m n", ["auto:code"]),
    ],
)
def test_who_may_ask_for_it_and_for_a_model_sees_it(patterns: str, listed: list[str]) -> None:
    box = host("box", Holding("m:latest", capabilities=CHAT), Holding("n", capabilities=CODER))
    assert names((), box, patterns=patterns) == listed


def test_what_is_told_of_it_holds_for_whichever_answers() -> None:
    box = host("box", Holding("n", capabilities=EYES, context_length=50))
    auto, tools, sight = left_to_us((WRITES,), (LOCAL, box))
    assert (auto.capabilities, auto.context_length) == (("completion",), 50)
    assert (auto.server, auto.digest) == ("localmodels", "")
    assert (tools.name, tools.capabilities, tools.context_length) == ("auto:tools", ("completion", "tools"), 100)
    assert (sight.name, sight.capabilities, sight.context_length) == ("auto:vision", ("completion", "vision"), 50)


def test_another_gateway_chooses_by_itself_and_a_model_may_be_called_so() -> None:
    box = host("box", Holding("m", capabilities=CODER), Holding("n", capabilities=CHAT))
    assert names((), box, passed=("us",)) == ["auto", "auto:code"]
    assert names((), box, passed=("them", "us")) == []
    taken = host("box", Holding("auto", capabilities=CHAT), Holding("n", capabilities=CODER))
    assert names((), taken) == ["auto:code"]
    assert names((replace(WRITES, name="auto:code"),), LOCAL, box) == ["auto", "auto:tools"]
