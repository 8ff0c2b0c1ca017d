"""What one gateway does, the other one knows: servers, keys, and many of both at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.fleet.doors import Doors, Gateway, until
from tests.fleet.hosts import Behind
from tests.proofs.claims import Claim, timed

SOON = 1.0  # seconds within which the other gateway knows of a change


class Lateness:
    """How long the other gateway took at most, by what was changed."""

    def __init__(self) -> None:
        self.most: dict[str, float] = {}

    async def of(self, what: str, true: Callable[[], Awaitable[bool]]) -> None:
        """Waits until it is true."""
        self.most[what] = max(self.most.get(what, 0.0), await until(true))

    def claim(self, what: str) -> Claim:
        """That it never took long."""
        figures = ", ".join(f"{word} {seconds * 1000:.0f} ms" for word, seconds in self.most.items())
        return timed(what, max(self.most.values()) <= SOON, f"at most: {figures}")


async def of_servers(pair: Doors, server: Behind, rounds: int) -> Claim:
    """A server is registered, changed, switched off and on, and taken away on one gateway; the other one is watched."""
    late = Lateness()
    for number in range(2 * rounds):
        here = pair.gateways[number % 2]
        await of_a_server(pair, here, pair.other(here), server, number + 1, late)
    return late.claim("a change of one gateway counts at the other")


async def of_a_server(
    pair: Doors, here: Gateway, there: Gateway, server: Behind, priority: int, late: Lateness
) -> None:
    """Once."""
    id_ = await pair.register(here, server)
    path = f"/api/servers/{id_}"

    async def listed() -> bool:
        return id_ in await pair.servers(there)

    async def unlisted() -> bool:
        return not await listed()

    async def routed() -> bool:
        return await pair.targets(there) == {server.name}

    async def unrouted() -> bool:
        return not await pair.targets(there)

    async def changed() -> bool:
        return bool((await pair.servers(there))[id_]["priority"] == priority)

    await late.of("listed", listed)
    await late.of("routed to", routed)
    await pair.called(here, "PUT", path, priority=priority)
    await late.of("changed", changed)
    await pair.called(here, "PUT", path, is_active=False)
    await late.of("switched off", unrouted)
    await pair.called(here, "PUT", path, is_active=True)
    await late.of("switched on", routed)
    await pair.remove(here, id_)
    await late.of("taken away", unlisted)
    await late.of("routed to no more", unrouted)


async def of_keys(pair: Doors, rounds: int) -> Claim:
    """A key that is made on one gateway opens the other one, until it is taken away."""
    late = Lateness()
    for number in range(2 * rounds):
        here = pair.gateways[number % 2]
        await of_a_key(pair, here, pair.other(here), f"key {number}", late)
    return late.claim("a key of one gateway counts at the other")


async def of_a_key(pair: Doors, here: Gateway, there: Gateway, name: str, late: Lateness) -> None:
    """Once."""
    made = await pair.called(here, "POST", "/api/keys", name=name, scopes=["infer", "list"])

    async def opens() -> bool:
        return (await pair.call(there, "GET", "/api/tags", key=made["key"])).status_code == 200

    async def opens_nothing() -> bool:
        return (await pair.call(there, "GET", "/api/tags", key=made["key"])).status_code == 401

    await late.of("opens", opens)
    await pair.called(here, "DELETE", f"/api/keys/{made['id']}")
    await late.of("opens nothing", opens_nothing)


async def of_many(pair: Doors, registrations: int) -> Claim:
    """Many registrations at once from both sides; half of each side's are the other side's, too."""
    half = registrations // 2
    both = [(f"s{number}", f"http://127.0.0.7:{20_000 + number}") for number in range(half)]
    wishes = [
        (gateway, name, url)
        for place, gateway in enumerate(pair.gateways)
        for name, url in (*both, *((f"{gateway.name}{n}", f"http://127.0.0.{8 + place}:{n + 1}") for n in range(half)))
    ]
    answers = await asyncio.gather(
        *(pair.call(gateway, "POST", "/api/servers/", name=name, url=url) for gateway, name, url in wishes)
    )
    wanted = {name for _, name, _ in wishes}
    made = {answer.json()["id"]: answer.json()["name"] for answer in answers if answer.status_code == 201}

    async def alike() -> bool:
        lists = [{id_: row["name"] for id_, row in (await pair.servers(one)).items()} for one in pair.gateways]
        return lists[0] == lists[1] == made

    within = await until(alike)
    statuses = Counter(answer.status_code for answer in answers)
    await pair.remove(pair.gateways[0], *made)
    right = statuses == {201: len(wanted), 409: half} and {*made.values()} == wanted
    figures = f"{len(wishes)} at once: {dict(statuses)}; both show the same {len(made)} within {within:.2f} s"
    return Claim("of registrations from both sides none is lost and none is there twice", right, figures)
