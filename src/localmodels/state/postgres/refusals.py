"""What PostgreSQL, its driver or the network say against something, as errors of ours.

The rule: a message has no address with a password in it, no statement and no row; so the driver's own words are taken
only where they are known to have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import exc

from localmodels.core.access import Unwritable
from localmodels.core.errors import DatabaseUnavailable, DiskFull, LocalModelsError, StoreFailed
from localmodels.state.files import StateError

# What ends by itself: a server that starts or stops, and has no connection left; a statement, or its wait for a lock,
# that took too long; two that waited for each other, or changed the same at the same time.
PASSING = frozenset({"57P01", "57P02", "57P03", "53300"})
SLOW = frozenset({"57014", "55P03"})
COLLIDED = frozenset({"40001", "40P01"})
# Seconds after which asking again makes sense: a database that is started anew takes some.
RETRY_AFTER = 5.0
# What the driver raises when it is not asked through SQLAlchemy; a connection that did may be of no use.
LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_OF_A_CONNECTION = "08"
_FULL = "53100"
# What shall be written is no value of its column, or breaks a rule of its table.
_OF_A_ROW = ("22", "23")


class Away(DatabaseUnavailable):
    """PostgreSQL cannot be used now, and may be later.

    Attributes:
        collided: was it that somebody else changed the same at the same time?
    """

    def __init__(self, message: str, *, collided: bool = False) -> None:
        super().__init__(message, retry_after=RETRY_AFTER)
        self.collided = collided


@contextmanager
def refusals() -> Iterator[None]:
    """Makes errors of ours of what goes wrong within.

    Raises:
        DatabaseUnavailable: it may be good later.
        StoreFailed, DiskFull: it will not.
    """
    try:
        yield
    except LocalModelsError:
        raise
    except StateError as error:
        raise StoreFailed(str(error)) from error
    except exc.DBAPIError as error:
        # Without its cause, which repeats the statement.
        raise refused(error.orig.__cause__ if error.orig and error.orig.__cause__ else error) from None
    except (exc.SQLAlchemyError, *LOST) as error:
        raise refused(error) from None


def refused(reason: BaseException) -> LocalModelsError:
    """What was said, as an error of ours."""
    state = getattr(reason, "sqlstate", None)
    if state == _FULL:
        return DiskFull("the database's disk is full: the state cannot be written; make room and ask again")
    words = f"the database cannot be used: {_words(reason, state)}"
    if state in COLLIDED:
        return Away(words, collided=True)
    if isinstance(reason, ValueError) or str(state).startswith(_OF_A_ROW):  # the first is the driver's, of an argument
        return Unwritable(words)
    return Away(words) if _is_passing(reason, state) else StoreFailed(words)


def _is_passing(reason: BaseException, state: str | None) -> bool:
    """May it go by itself? What the driver says beside the server is of a connection, and the next one may be good."""
    if isinstance(reason, asyncpg.PostgresError):
        return state in PASSING or state in SLOW or str(state).startswith(_OF_A_CONNECTION)
    return isinstance(reason, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, exc.TimeoutError))


def _words(reason: BaseException, state: str | None) -> str:
    if isinstance(reason, asyncpg.PostgresError):
        # Its first argument; a detail, which str() adds, may be a row.
        return "it took too long" if state in SLOW else str(reason.args[0])
    if isinstance(reason, exc.TimeoutError):
        return "all connections to it are busy"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError):
        return f"no connection ({reason.strerror or type(reason).__name__})"
    if isinstance(reason, asyncpg.InterfaceError) and "closed" in str(reason):
        return "the connection was closed"
    return f"its driver gave up ({type(reason).__name__})"
