"""Copying, deleting and pushing: a model of another server is said to be there, one that is nowhere not to be found."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope
from tests.awaited import awaited
from tests.unit.flows.library.test_split_models import NobodyRuns

from localmodels.core.catalog import ModelName
from localmodels.core.errors import Conflict, ModelNotFound
from localmodels.core.library import Progress, PullRequest, PushRequest
from localmodels.flows.fleet_library.fan_out import Everywhere
from localmodels.flows.fleet_library.local_library import Own
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.visit import Visit
from localmodels.server.library import Changes
from localmodels.server.wire import VISIT
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore

NOTHING: Any = None  # nothing runs


class Moves:
    """Sends what is not there, as far as that goes; ``left`` counts those who are done with it."""

    left = 0

    def pull(self, request: PullRequest, /) -> AsyncGenerator[Progress, None]:
        raise NotImplementedError

    async def push(self, request: PushRequest, /) -> AsyncGenerator[Progress, None]:
        try:
            yield Progress("retrieving manifest")
            ModelName.parse(request.model)
            raise ModelNotFound(request.model)
        finally:
            self.left += 1


def require_here(name: str) -> None:
    """As if there was a server ``box``."""
    if name.startswith("box/"):
        raise Conflict(f"{name} is on the server 'box'; manage it there")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("box/far", Conflict),
        ("box/a/b/c:7b", Conflict),  # no name of ours, and one of theirs
        ("gone", ModelNotFound),
    ],
)
@awaited
async def test_what_is_not_here_is_said_to_be_where_it_is(tmp_path: Path, name: str, error: type[Exception]) -> None:
    keeper = Keeper(ModelStore(tmp_path), Library(()), NobodyRuns())
    moves = Moves()
    changes = Changes(Everywhere(Own(keeper, moves, NOTHING), tuple, keeper.lent), require_here)
    scope: Scope = {"type": "http", VISIT: Visit("r")}
    for change, asked in (
        (changes.copy, {"source": name, "destination": "mine"}),
        (changes.delete, {"model": name}),
    ):
        with pytest.raises(error):
            await change(scope, json.dumps(asked).encode())
    steps = changes.push(PushRequest(name))
    assert (await anext(steps)).status == "retrieving manifest"
    with pytest.raises(error):
        await anext(steps)
    assert moves.left == 1


@awaited
async def test_a_push_that_is_left_in_the_middle_is_left_at_once(tmp_path: Path) -> None:
    moves = Moves()
    keeper = Keeper(ModelStore(tmp_path), Library(()), NobodyRuns())
    steps = Changes(Everywhere(Own(keeper, moves, NOTHING), tuple, keeper.lent), require_here).push(PushRequest("m"))
    await anext(steps)
    await steps.aclose()
    assert moves.left == 1
