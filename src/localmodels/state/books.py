"""Everything that is written, in one transaction; imported by the first who writes (see ``state``)."""

from __future__ import annotations

from functools import cached_property

from sqlalchemy import Connection

from localmodels.state.fleet import Fleet
from localmodels.state.keys import Keys
from localmodels.state.responses import Responses
from localmodels.state.tasks import Tasks
from localmodels.state.usage import Usage


class Books:
    """The tables, over a connection that has begun a transaction.

    Args:
        connection: to the database.
        gateway: who writes; empty for files, which have one home.
        now: nanoseconds since 1970.
    """

    def __init__(self, connection: Connection, gateway: str, now: int) -> None:
        self._connection = connection
        self._gateway = gateway
        self._now = now

    @cached_property
    def keys(self) -> Keys:
        """Who may ask."""
        return Keys(self._connection)

    @cached_property
    def usage(self) -> Usage:
        """What was used."""
        return Usage(self._connection)

    @cached_property
    def tasks(self) -> Tasks:
        """Long work."""
        return Tasks(self._connection, self._gateway)

    @cached_property
    def fleet(self) -> Fleet:
        """Servers and their models."""
        return Fleet(self._connection)

    @cached_property
    def responses(self) -> Responses:
        """Stored responses."""
        return Responses(self._connection, self._gateway, self._now)
