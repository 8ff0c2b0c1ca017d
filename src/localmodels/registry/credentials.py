"""Who we are at which registry: the store of logins, and the file that keeps them.

The rule: the file is readable by its owner alone, from its first byte on, and is replaced as a whole; whoever reads it
sees the logins before a change or after it. A login belongs to an origin, scheme included, so a password that was given
for https is never said over http.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from localmodels.core.errors import Forbidden, InvalidValue
from localmodels.core.secrets import Secret
from localmodels.dialects.strict_json import parsed
from localmodels.registry.addresses import Origin

FILE = "registries.json"
MAX_FILE = 2**20


class Login(Struct, frozen=True):
    """A user name and a password, or whatever a registry gives out in its place."""

    username: str
    password: Secret

    @classmethod
    def parse(cls, username: str, password: str) -> Login:
        """Checks that it can be said in a header.

        Raises:
            InvalidValue: an empty part, control characters, or a colon in the name (RFC 7617).
        """
        if not username or ":" in username or not username.isprintable():
            raise InvalidValue("a user name has at least one character, and no colon", param="username")
        if not password or not password.isprintable():
            raise InvalidValue("a password has at least one character, and none of control", param="password")
        return cls(username, Secret(password))


class Credentials(Protocol):
    """Logins by origin. All three may touch the disk, so an event loop calls them in a thread."""

    def get(self, origin: Origin) -> Login | None: ...

    def put(self, origin: Origin, login: Login) -> None: ...

    def remove(self, origin: Origin) -> bool:
        """Forgets a login; says whether there was one."""
        ...


class MemoryCredentials:
    """Logins that end with the program."""

    def __init__(self, logins: Mapping[Origin, Login] | None = None) -> None:
        self._logins = dict(logins or {})

    def get(self, origin: Origin) -> Login | None:
        return self._logins.get(origin)

    def put(self, origin: Origin, login: Login) -> None:
        self._logins[origin] = login

    def remove(self, origin: Origin) -> bool:
        return self._logins.pop(origin, None) is not None


class _WireLogin(Struct):
    username: str
    password: str


class FileCredentials:
    """Logins in ``registries.json`` in a directory of their owner's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / FILE

    def get(self, origin: Origin) -> Login | None:
        """The login for this origin.

        Raises:
            Forbidden: others could have read or changed the file, or it is damaged.
        """
        found = self._read().get(str(origin))
        return Login(found.username, Secret(found.password)) if found else None

    def put(self, origin: Origin, login: Login) -> None:
        with self._alone():
            self._write({**self._read(), str(origin): _WireLogin(login.username, login.password.reveal())})

    def remove(self, origin: Origin) -> bool:
        with self._alone():
            logins = self._read()
            if logins.pop(str(origin), None) is None:
                return False
            self._write(logins)
            return True

    def _read(self) -> dict[str, _WireLogin]:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Forbidden(f"{FILE} cannot be opened: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
                raise Forbidden(f"{FILE} is not its owner's alone; make it a plain file of mode 600, and yours")
            data = stream.read(MAX_FILE + 1)
        try:
            logins: dict[str, _WireLogin] = parsed(data, dict[str, _WireLogin])
            return logins
        except ValueError:
            # Without its cause: a message that quotes the file must not get into a log.
            raise Forbidden(f"{FILE} is damaged; remove it and log in again") from None

    def _write(self, logins: dict[str, _WireLogin]) -> None:
        fresh = self._directory / f".{FILE}.{os.getpid()}"
        with suppress(FileNotFoundError):
            fresh.unlink()  # what an interrupted write of a process of this number left
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(logins)) + b"\n")
            stream.flush()
            os.fsync(descriptor)
        fresh.replace(self._file)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While two programs log in at once, neither loses the other's login."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
