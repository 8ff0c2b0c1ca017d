"""What of a host's word counts."""

from __future__ import annotations

import pytest

from localmodels.core.catalog import Model
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.sights import sight_of

TOLD = Told(models=tuple(Model(name, 0, "", "") for name in ("m", "local/m", "LOCAL/m", "locals/m")))


@pytest.mark.parametrize(
    ("registered", "held"),
    [
        (True, {"m:latest", "locals/m:latest"}),
        (False, {"m:latest", "locals/m:latest", "local/m:latest", "LOCAL/m:latest"}),
    ],
)
def test_no_registered_server_takes_names_of_this_machine(registered: bool, held: set[str]) -> None:
    spec = ServerSpec(name="far", id="id", url="http://127.0.0.1:9", kind="ollama", registered=registered)
    assert set(sight_of(TOLD, spec, {}, 0.0).holdings) == held


@pytest.mark.parametrize(("whole", "listed"), [(True, ["a"]), (False, ["a", "b"])])
def test_what_stands_in_a_table_alone_is_listed_only_where_its_server_cannot_tell(
    whole: bool, listed: list[str]
) -> None:
    spec = ServerSpec(name="far", url="http://127.0.0.1:9", kind="openai", models=("a", "b"))
    told = Told((Model("a", 0, "d" * 64, ""), Model("c", 0, "", "")), whole=whole)
    held = sight_of(told, spec, {}, 0.0).holdings
    assert [one.model for one in held.values()] == ["a", "b"], "it may be asked for all that its owner says"
    assert [one.model for one in held.values() if one.listed] == listed
    assert held["a:latest"].digest == "d" * 64
