"""Where the server of a home keeps its state, as it wrote down itself when it started.

A command that works on a home without asking its server would else go by its own settings, and make keys in a file
that the server, which has a database, never looks into. The rules: no name and no password is written; and a lock says
whether the server that wrote it still runs, so that nobody goes by what an old one said as if it were there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct

from localmodels.core.secrets import Secret
from localmodels.state.files import PRIVATE, STATE, StateError

WHEREABOUTS = "state.at"
USUAL_HOST, USUAL_PORT = "localhost", "5432"  # PostgreSQL's own


class Whereabouts(Struct, frozen=True):
    """What a server said.

    Attributes:
        database: without who asks it, see :func:`place_of`; empty for the files of the home.
        origin: where the server has that setting from.
    """

    database: str = ""
    origin: str = ""

    def told(self, home: Path) -> str:
        """For people: the database, or the file."""
        return self.database or str(home / STATE)


@contextmanager
def written(home: Path, said: Whereabouts) -> Iterator[None]:
    """Writes it down, and says until the end of the context that a server runs on it.

    Raises:
        StateError: it cannot be written.
    """
    path, new = home / WHEREABOUTS, home / f"{WHEREABOUTS}.{os.getpid()}.new"
    with ExitStack() as held:
        try:
            file = held.enter_context(open(new, "wb", opener=_private))
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(msgspec.json.encode(said) + b"\n")
            file.flush()
            new.rename(path)
        except OSError as error:
            raise StateError(f"{path} cannot be written: {error.strerror}") from error
        yield


def read(home: Path) -> tuple[Whereabouts, bool] | None:
    """What the server of a home said last, and does it run? None where none has said anything.

    Raises:
        StateError: it cannot be read.
    """
    path = home / WHEREABOUTS
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(), type=Whereabouts), _is_held(file.fileno())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not as a server writes it"
        raise StateError(f"{path} cannot be used: {why}; a server that is started writes it anew") from error


def place_of(database: Secret) -> str:
    """The database of a URL without who asks it, in one spelling: ``postgresql://HOST:PORT/NAME``; empty for none.

    >>> place_of(Secret("postgres://me:secret@DB.example/models?sslmode=require"))
    'postgresql://db.example:5432/models'
    """
    if not database:
        return ""
    try:
        parts = urlsplit(database.reveal())
    except ValueError:  # who connects says what is wrong with it
        return "postgresql://?"
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return "postgresql://?"  # of a password in which one of /?# is not escaped: no piece of it is shown
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    who, _, there = parts.netloc.rpartition("@")
    name = asked.get("dbname") or parts.path.lstrip("/") or asked.get("user") or who.partition(":")[0]
    hosts = (asked.get("host") or there or USUAL_HOST).split(",")
    return f"postgresql://{','.join(_host(host, asked.get('port')) for host in hosts)}/{name}"


def _host(text: str, port: str | None) -> str:
    """A host with its port; a path is a directory of sockets."""
    if text.startswith("/"):
        return text
    there = text.rpartition("]")[2]  # behind the brackets of an IPv6 address
    return text.lower() if ":" in there else f"{text.lower()}:{port or USUAL_PORT}"


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who reads beside us is no server
    except BlockingIOError:
        return True
    return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE)
