"""A request on its way: it waits where its model is, as long as that is of use."""

from __future__ import annotations

import asyncio

from tests.awaited import awaited
from tests.unit.fleet.standing import host

from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.places import Places
from localmodels.flows.errand import Errand, Hop
from localmodels.flows.traffic import Traffic
from localmodels.flows.visit import Visit


class Way:
    """A host that is full and has the model loaded, and one that is free and has not."""

    def __init__(self) -> None:
        self.warm = host("warm", loaded=["m"], most=1, busy=1, service=1.0)
        self.cold = host("cold", loaded=[], most=1)
        self.traffic = Traffic(Fleet(), Places())

    def errand(self, *, patient: bool) -> Errand:
        hops = [Hop(one, "m", patient=patient) for one in (self.cold, self.warm)]
        return Errand(hops, Visit(), self.traffic)

    async def sent(self) -> asyncio.Task[Host]:
        """A patient request that waits by now, if it has to."""

        async def go() -> Host:
            async with self.errand(patient=True) as errand:
                return errand.hop.host

        task = asyncio.create_task(go())
        await asyncio.sleep(0)
        return task


@awaited
async def test_it_waits_for_a_moment_rather_than_have_the_model_loaded_elsewhere() -> None:
    way = Way()
    request = await way.sent()
    assert not request.done()
    way.traffic.places.give_back(way.warm)
    assert await request is way.warm


@awaited
async def test_under_other_policies_it_goes_where_there_is_a_place() -> None:
    way = Way()
    async with way.errand(patient=False) as errand:
        assert errand.hop.host is way.cold


@awaited
async def test_when_who_has_it_goes_down_it_goes_elsewhere() -> None:
    way = Way()
    request = await way.sent()
    way.warm.state = "down"
    way.traffic.places.look(way.warm)
    assert await request is way.cold
