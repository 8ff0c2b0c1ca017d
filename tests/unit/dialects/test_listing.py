"""Lists of models of a fleet: what is said of it is read back, and nothing is said where there is none."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from localmodels.core.catalog import Description, Model, Running
from localmodels.core.library import Outcome
from localmodels.core.options import Options
from localmodels.dialects import gateway, listing, offered, told

ALONE = Model("m:latest", 7, "a" * 64, "2026-01-01T00:00:00+00:00")
SHARED = replace(ALONE, servers=("local", "b"))
DIFFERING = replace(SHARED, digests={"local": "a" * 64, "b": "b" * 64})
ROW = Running(ALONE, "running", 7, 5, 0, "2026-01-01T12:00:00Z", 4096)


def test_a_model_of_a_fleet_is_read_back() -> None:
    models = (ALONE, SHARED, DIFFERING)
    assert listing.read_tags(listing.write_tags(models)) == models


def test_what_a_models_author_set_is_shown_of_every_server() -> None:
    """Also what no option of ours is: it is passed on as it was told."""
    told_there = 'num_ctx                 4096\nstop                           "<|end|>"\npenalize_newline true'
    body = json.dumps({"parameters": told_there, "modelfile": "FROM x", "name": "m"}).encode()
    for _ in range(2):  # through one gateway, and through another one before it
        body = listing.write_show(offered.read_shown("far", "m", body))
        assert json.loads(body)["parameters"] == told_there
    ours = Description(ALONE, options=Options(num_ctx=4096))
    assert json.loads(listing.write_show(ours))["parameters"].split() == ["num_ctx", "4096"]


def test_a_lone_server_lists_as_ever() -> None:
    for written in (
        listing.write_tags([ALONE]),
        listing.write_openai_models([ALONE], {}),
        gateway.write_models([ALONE]),
        listing.write_ps([ROW]),
    ):
        assert not [
            word
            for word in (b"servers", b"digests", b"conflict", b'"server"', b"failures", b"gateways")
            if word in written
        ]


def test_every_list_tells_who_has_a_model_and_where_it_differs() -> None:
    for written, digest in (
        (listing.write_tags([DIFFERING]), "b" * 64),
        (listing.write_openai_models([DIFFERING], {}), "b" * 64),
        (gateway.write_models([DIFFERING]), "sha256-" + "b" * 64),
    ):
        lists = json.loads(written)
        [model] = lists.get("models") or lists["data"]
        assert (model["servers"], model["conflict"]) == (["local", "b"], True)
        assert model["digests"]["b"] == digest
    [shared] = json.loads(listing.write_tags([SHARED]))["models"]
    assert (shared["servers"], "conflict" in shared, "digests" in shared) == (["local", "b"], False, False)


def test_what_is_in_memory_says_where_and_who_is_silent() -> None:
    there = replace(ROW, server="b", expires_at="", pid=0)
    written = listing.write_ps([replace(ROW, server="local"), there], [Outcome("c", "error", "gone")])
    assert told.read_ps(written) == tuple(
        replace(row, model=replace(ALONE, size=row.size, modified_at=""))
        for row in (replace(ROW, server="local"), there)
    )
    said = json.loads(written)
    assert [row["server"] for row in said["models"]] == [row["server"] for row in said["running"]] == ["local", "b"]
    assert "expires_at" not in said["models"][1]  # clients read it as a moment
    assert said["failures"] == [{"server": "c", "status": "error", "failure": "gone"}]


def test_gateways_are_told_and_read_back_in_every_list() -> None:
    led = replace(ALONE, gateways=("b", "c"))
    assert listing.read_tags(listing.write_tags([led])) == (led,)
    [running] = told.read_ps(listing.write_ps([replace(ROW, model=led)]))
    assert running.model.gateways == ("b", "c")
    [entry] = told.read_entries(listing.write_openai_models([led], {})).models
    assert (entry.name, entry.gateways) == ("m:latest", ("b", "c"))
    [tag] = told.read_tags(listing.write_tags([led])).models
    assert tag.gateways == ("b", "c")


@pytest.mark.parametrize("name", ["gpt", "cloud/gpt", "org/gpt:7b"])
def test_a_digest_that_stands_in_for_one_shows_it_and_is_not_believed_by_another_gateway(name: str) -> None:
    model = name.removeprefix("cloud/")
    made_up = offered.named("cloud", model)
    assert (made_up.name, made_up.digest[:12], len(made_up.digest)) == (f"cloud/{model}", "0" * 12, 64)
    assert offered.named("other", model).digest == made_up.digest != offered.named("cloud", "another").digest
    assert told.read_tags(listing.write_tags([replace(made_up, name=name)])).models[0].digest == ""
    [small] = told.read_tags(listing.write_tags([replace(made_up, digest=f"{7:064x}")])).models
    assert small.digest == f"{7:064x}", "only what is made of this very name"
