"""``/api/route``: a dry run, for a model, for what one shall be able to do, and for none that is named."""

from __future__ import annotations

import pytest
from starlette.types import Scope
from tests.awaited import awaited
from tests.unit.flows.routing.test_name_resolution_fleet import FleetWorld, member

from localmodels.core.access import LOCAL
from localmodels.dialects.routing import ShownRoute, read_route
from localmodels.flows.visit import Visit
from localmodels.server.route import Route
from localmodels.server.wire import VISIT


async def told(world: FleetWorld, query: str) -> ShownRoute:
    scope: Scope = {"type": "http", "query_string": query.encode(), VISIT: Visit("req", LOCAL)}
    return read_route(await Route(world.finders).explain(scope, b""))


@pytest.mark.parametrize("query", ["", "model=", "model=auto", "session=s"])
@awaited
async def test_who_names_no_model_leaves_the_choice_to_us(query: str) -> None:
    world = FleetWorld(default="n")
    await world.adopt(member("box", "m"))
    route = await told(world, query)
    assert ([one.server for one in route.targets], route.model) == (["box"], "m:latest")


@awaited
async def test_a_model_of_this_machine_is_explained_by_its_whole_name() -> None:
    world = FleetWorld("m:latest")
    await world.adopt(member("local", "m:latest", kind="local"), member("box", "m"))
    route = await told(world, "model=local/m")
    assert ([(one.server, one.model) for one in route.targets], route.left_out) == ([("local", "m:latest")], ())
