"""What passes untouched, and what is known by it of the server that answered."""

from __future__ import annotations

import json
from typing import NoReturn

import pytest
from tests.awaited import awaited
from tests.fleet_world import Ollama, World

from localmodels.core.access import LOCAL
from localmodels.core.catalog import Model, Running
from localmodels.core.errors import ModelNotFound
from localmodels.dialects.peek import peek
from localmodels.dialects.table import WAYS
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.routing.relay import Relays
from localmodels.flows.routing.remote_model import RemoteTarget
from localmodels.flows.servers.refresh import Freshness
from localmodels.flows.visit import Visit

URL = "http://10.39.0.101:11434"


class Nowhere:
    """Stands where the models of this machine would be; nobody asks there."""

    async def find(self, name: str) -> NoReturn:
        raise ModelNotFound(name)

    async def models(self) -> tuple[Model, ...]:
        return ()

    async def describe(self, name: str, *, verbose: bool) -> NoReturn:
        raise ModelNotFound(name)

    def running(self) -> tuple[Running, ...]:
        return ()


@pytest.mark.parametrize("stays", [False, True])
@awaited
async def test_a_model_that_a_request_has_unloaded_is_gone_from_the_next_list(stays: bool) -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        ollama.loaded, ollama.stays = {"m": 2**30}, stays
        host = world.remotes.fleet.host(await world.add("box", URL, ollama))
        assert host is not None
        assert host.is_warm("m:latest")
        server = world.remotes.at(host)
        assert server is not None
        to = RemoteTarget(server, "m").relay("ollama", "generate")
        assert to is not None
        asked = peek(WAYS["ollama"], json.dumps({"model": "box/m", "keep_alive": 0, "stream": False}).encode())
        relays = Relays(Finders(Nowhere(), world.remotes))
        answer = await relays.whole(to, "/api/generate", asked, Visit("req", LOCAL))
        assert json.loads(answer)["done_reason"] == "unload"
        await Freshness(world.monitor).memory()
        assert host.is_warm("m:latest") is stays, "what the server says now, and no time has passed"
