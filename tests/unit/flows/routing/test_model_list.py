"""One list of a fleet's models: whose each is, where they differ, and who has nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from localmodels.core.access import Caller
from localmodels.core.catalog import Details, Model, Running
from localmodels.core.servers import AnyKind, ServerSpec
from localmodels.fleet.hosts import Holding, Host, Loaded, Sight, State, same_name
from localmodels.flows.routing.model_list import May, askable, from_here, holders, merged, running

A, B = "a" * 64, "b" * 64
EPOCH = "1970-01-01T00:00:00+00:00"


def host(
    name: str,
    *holdings: Holding,
    loaded: tuple[Loaded, ...] | None = None,
    state: State = "up",
    kind: AnyKind = "ollama",
    registered: bool = True,
    **spec: Any,
) -> Host:
    sight = Sight(
        1.0,
        holdings={same_name(one.model): one for one in holdings},
        loaded=None if loaded is None else {same_name(one.model): one for one in loaded},
    )
    return Host(ServerSpec(name=name, url=f"http://{name}", kind=kind, registered=registered, **spec), sight, state)


def here(name: str, digest: str = A) -> Model:
    return Model(name, 7, digest, "2026-01-01T00:00:00+00:00")


LOCAL = host("local", kind="local", registered=False)


def asked_by(patterns: str) -> May:
    """Whoever may ask these; every name leads where it should."""
    caller = Caller("k", "k", models=tuple(patterns.split()))
    return lambda name, where: caller.may_ask(name)


def listed(models: tuple[Model, ...]) -> dict[str, tuple[str, ...]]:
    return {model.name: model.servers for model in models}


def test_without_other_servers_nothing_changes() -> None:
    mine = (here("m:latest"), here("a:1"))
    assert merged(mine, ()) == merged(mine, (LOCAL, host("file", registered=False))) == mine
    beside = merged(mine, (LOCAL, host("file", Holding("x:1"), registered=False)))
    assert listed(beside) == {"m:latest": ("local",), "a:1": ("local",), "file/x:1": ("file",)}
    assert merged(mine, (host("local", kind="local", registered=False, is_active=False),)) == ()


def test_each_name_is_listed_once_with_those_who_have_it() -> None:
    hosts = (LOCAL, host("b", Holding("m:latest", A), Holding("x:1", B)), host("c", Holding("x:1", B), Holding("w")))
    assert listed(merged((here("z:1"), here("m:latest")), hosts)) == {
        "z:1": ("local",),
        "m:latest": ("local", "b"),
        "w": ("c",),
        "x:1": ("b", "c"),
    }
    assert all(not model.digests for model in merged((here("m:latest"),), hosts))


def test_models_of_servers_of_the_file_are_listed_under_their_servers_alone() -> None:
    file = host("file", Holding("x:1", A, 5), Holding("y:1", listed=False), Holding("z"), registered=False)
    down = host("down", Holding("x:1"), registered=False, state="down")
    tabled = host("tabled", Holding("x:1"), registered=False, state="down", models=("x:1",))
    off = host("off", Holding("x:1"), registered=False, is_active=False, models=("x:1",))
    models = merged((), (file, host("b", Holding("x:1")), down, tabled, off))
    assert listed(models) == {"x:1": ("b",), "file/x:1": ("file",), "file/z": ("file",), "tabled/x:1": ("tabled",)}
    known, unknown = models[1:3]
    assert (known.digest, known.size, known.server) == (A, 5, "file")
    assert unknown.digest.startswith("0" * 12)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("*", ["m:latest", "x:1", "file/y:1"]),
        ("m", ["m:latest"]),
        ("b/*", ["b/m:latest", "b/x:1"]),
        ("c/*", ["c/x"]),
        ("local/*", ["local/m:latest"]),
        ("*/m", ["local/m:latest", "b/m:latest"]),
        ("b/x:1 x:1", ["x:1"]),
        ("file/y:1", ["file/y:1"]),
        ("y:1", []),
    ],
)
def test_a_key_sees_what_it_may_ask_by_the_name_by_which_it_may(patterns: str, names: list[str]) -> None:
    may = asked_by(patterns)
    hosts = (
        LOCAL,
        host("b", Holding("m:latest", B, 9), Holding("x:1")),
        host("c", Holding("x:1")) if "c" not in patterns else host("c", Holding("x")),
        host("file", Holding("y:1"), registered=False),
    )
    models = merged((here("m:latest"),), hosts, may=may)
    assert [model.name for model in models] == names
    if names[:1] == ["b/m:latest"]:
        assert (models[0].servers, models[0].digest, models[0].size) == (("b",), B, 9), "as that server has it"


def test_who_may_ask_one_server_sees_what_is_in_its_memory() -> None:
    def row(model: str, server: str) -> Running:
        return Running(here(model), "running", 0, 1, 0, "", 0, server=server)

    def names(patterns: str) -> list[tuple[str, str]]:
        return [(one.model.name, one.server) for one in askable(rows, asked_by(patterns))]

    rows = (row("m:latest", ""), row("m:latest", "b"), row("n:1", "b"))
    assert names("*") == [("m:latest", ""), ("m:latest", "b"), ("n:1", "b")]
    assert names("b/*") == [("b/m:latest", "b"), ("b/n:1", "b")]
    assert names("local/m") == [("local/m:latest", "")]
    assert names("m") == [("m:latest", ""), ("m:latest", "b")]
    assert names("c/*") == []


def test_the_same_name_with_and_without_its_tag_is_one() -> None:
    hosts = (host("b", Holding("m", A)), host("c", Holding("m:latest", A)))
    assert [*listed(merged((here("m:latest"),), hosts)).values()] == [("local", "b", "c")]
    assert listed(merged((), hosts)) == {"m": ("b", "c")}


def test_digests_that_differ_are_shown_by_server_and_this_machine_describes() -> None:
    hosts = (LOCAL, host("b", Holding("m:latest", B, 9)), host("c", Holding("m:latest", B, 9)), host("d", Holding("m")))
    [model] = merged((here("m:latest"),), hosts)
    assert model.digests == {"local": A, "b": B, "c": B}
    assert (model.servers, model.digest, model.size) == (("local", "b", "c", "d"), A, 7)


def test_of_a_model_that_others_have_the_usual_copy_describes() -> None:
    details = Details(family="llama")
    usual = Holding(
        "m", B, 9, frozenset({"tools", "completion", "code"}), 4096, 0, "2026-02-02T00:00:00+00:00", details
    )
    [model] = merged((), (host("b", Holding("m", A, 1)), host("c", usual), host("d", usual)))
    assert (model.digest, model.size, model.context_length, model.details) == (B, 9, 4096, details)
    assert (model.modified_at, model.capabilities) == ("2026-02-02T00:00:00+00:00", ("completion", "tools"))
    assert (model.server, model.servers) == ("c", ("b", "c", "d"))
    assert model.digests == {"b": A, "c": B, "d": B}


def test_what_a_host_does_not_tell_is_as_clients_want_it() -> None:
    [model] = merged((), (host("v", Holding("gpt"), kind="openai"),))
    assert (len(model.digest), model.modified_at, model.digests) == (64, EPOCH, {})


@pytest.mark.parametrize("change", [{"state": "down"}, {"is_active": False}])
def test_who_does_not_answer_or_is_switched_off_has_nothing(change: dict[str, Any]) -> None:
    hosts = (host("b", Holding("m:1"), Holding("x:1"), loaded=(Loaded("m:1"),), **change), host("c", Holding("m:1")))
    assert listed(merged((), hosts)) == {"m:1": ("c",)}
    assert running((), hosts) == ()
    assert [one.spec.name for one, _ in holders("m:1", hosts)] == ["c"]
    assert merged((), (host("b"), Host(hosts[0].spec))) == ()


def test_this_machine_may_be_switched_off() -> None:
    off = host("local", kind="local", registered=False, is_active=False)
    assert listed(merged((here("m:1"), here("a:1")), (off, host("b", Holding("m:1"))))) == {"m:1": ("b",)}


def test_what_is_in_memory_says_where() -> None:
    row = Running(here("m:1"), "running", 7, 5, 0, "2026-01-01T00:00:00Z", 4096)
    there = Loaded("x:1", 9, 8, "2026-01-02T00:00:00Z", 512)
    hosts = (LOCAL, host("b", Holding("x:1", B), loaded=(there, Loaded("gone:1"))), host("c", Holding("x:1")))
    mine, other, unlisted = running((row,), hosts)
    assert (mine.server, mine.model) == ("local", row.model)
    assert (other.server, other.model.name, other.model.digest) == ("b", "x:1", B)
    assert (other.size, other.size_vram, other.expires_at, other.context_length) == (9, 8, there.expires_at, 512)
    assert (unlisted.model.name, len(unlisted.model.digest)) == ("gone:1", 64)
    assert running((row,), (LOCAL,)) == (row,)


def test_the_usual_copy_is_the_first_to_be_asked_about() -> None:
    hosts = (LOCAL, host("b", Holding("m:latest", A)), host("c", Holding("m", B)), host("d", Holding("m", B)))
    assert [one.spec.name for one, _ in holders("m", hosts)] == ["c", "d", "b"]
    assert holders("other", hosts) == ()


def test_another_gateway_is_not_told_what_leads_back_to_it() -> None:
    hosts = (
        LOCAL,
        host("b", Holding("m", A, gateways=("b",)), Holding("n", A, gateways=("b", "c"))),
        host("leaf", Holding("n", A)),
    )
    mine = (here("m:latest"),)
    assert listed(merged(mine, hosts, ("us",))) == {"m:latest": ("local", "b"), "n": ("b", "leaf")}
    assert listed(merged(mine, hosts, ("b", "us"))) == {"m:latest": ("local",), "n": ("leaf",)}
    assert listed(merged(mine, hosts, ("c", "us"))) == {"m:latest": ("local", "b"), "n": ("leaf",)}
    assert listed(merged((), hosts, ("x", "y", "us"))) == {"m": ("b",), "n": ("leaf",)}, "one more would be too many"


def test_of_several_ways_the_shortest_is_told() -> None:
    hosts = (host("b", Holding("m", A, gateways=("b", "c"))), host("leaf", Holding("m", A)))
    [model] = merged((), hosts)
    assert model.gateways == ()
    [model] = merged((), hosts[:1])
    assert model.gateways == ("b", "c")


def test_memory_is_told_likewise() -> None:
    there = host("b", Holding("m", A), loaded=(Loaded("m", gateways=("b", "c")), Loaded("n", gateways=("b",))))
    assert [(one.model.name, one.model.gateways) for one in running((), (there,), ("us",))] == [
        ("m", ("b", "c")),
        ("n", ("b",)),
    ]
    assert [one.model.name for one in running((), (there,), ("c", "us"))] == ["n"]


def test_only_gateways_are_told_of_gateways() -> None:
    assert from_here(("b",), ()) == from_here(("b",), ("us",)) == ()
    assert from_here(("b",), ("them", "us")) == ("us", "b")


def test_a_bare_name_that_leads_to_none_of_its_row_is_listed_as_each_has_it() -> None:
    hosts = (LOCAL, host("b", Holding("m"), Holding("n")), host("c", Holding("m")))
    asked: list[tuple[str, tuple[str, ...]]] = []

    def elsewhere(name: str, where: Sequence[str]) -> bool:
        asked.append((name, tuple(where)))
        return name != "m:latest"

    assert listed(merged((here("m:latest"),), hosts, may=elsewhere)) == {
        "local/m:latest": ("local",),
        "b/m": ("b",),
        "c/m": ("c",),
        "n": ("b",),
    }
    assert asked == [
        ("m:latest", ("local", "b", "c")),
        *((f"{name}", (name.partition("/")[0],)) for name in ("local/m:latest", "b/m", "c/m")),
        ("n", ("b",)),
    ]


def test_what_is_in_the_memory_of_a_server_of_the_file_has_its_name_before_it() -> None:
    row = Running(here("m:1"), "running", 7, 5, 0, "", 4096)
    file = host("file", Holding("x:1", B), loaded=(Loaded("x:1", 9),), registered=False)
    mine, other = running((row,), (LOCAL, file))
    assert (mine.server, mine.model.name) == ("local", "m:1")
    assert (other.server, other.model.name, other.size) == ("file", "file/x:1", 9)
    assert running((row,), (LOCAL, host("file", Holding("x:1"), registered=False))) == (row,)
    assert [one.model.name for one in askable((mine, other), asked_by("file/x*"))] == ["file/x:1"]
    assert [*askable((mine, other), asked_by("file/file/* x:1"))] == []
