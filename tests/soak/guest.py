"""What every visit has at hand: where the server is, keys, chance, and the book in which its requests are counted."""

from __future__ import annotations

from random import Random
from time import monotonic

from msgspec import Struct, field
from tests.hostile.attacker import Heard
from tests.soak.client import Connection, Request, connected
from tests.soak.tally import Tally


class Guest(Struct):
    """All of it, for all visits of one soak.

    Attributes:
        port: of the server, on 127.0.0.1.
        admin, worker, limited: keys. The second may do what programs do, the third may ask thirty times a minute.
        begun: when the soak did, by the monotonic clock.
    """

    port: int
    admin: str
    worker: str
    limited: str
    draw: Random
    begun: float = field(default_factory=monotonic)
    tally: Tally = field(default_factory=Tally)
    count: int = 0

    def number(self) -> int:
        """Another one each time, for names."""
        self.count += 1
        return self.count

    async def once(self, kind: str, request: Request, wanted: frozenset[str], *, slow: bool = False) -> Heard:
        """One request on a connection of its own."""
        async with connected(self.port, slow=slow) as connection:
            return await self.then(connection, kind, request, wanted)

    async def then(self, connection: Connection, kind: str, request: Request, wanted: frozenset[str]) -> Heard:
        """One more request on a connection."""
        heard = await connection.ask(request)
        self.tally.note(kind, heard, wanted)
        return heard
