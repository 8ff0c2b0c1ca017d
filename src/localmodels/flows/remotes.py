"""The other servers of a configuration: how each is reached, what it offers, and what became of it.

One owner: :class:`Remotes` holds the servers by name, and changes them when the configuration does. A server that
leaves goes on until its last answer has ended. The one rule: no error of a server reaches a caller as it came. Its key
is nobody's business, a refusal of our key is our failure, and every message says which server it was.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

from localmodels.backends.carriers import carrier_to
from localmodels.backends.far import Far
from localmodels.backends.http import Carrier
from localmodels.backends.places import Places
from localmodels.core.errors import (
    BackendError,
    Conflict,
    ExpectationFailed,
    Forbidden,
    HeadTooLarge,
    LocalModelsError,
    MethodNotAllowed,
    Misdirected,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    TargetTooLong,
    Unauthenticated,
    UnsupportedMedia,
    VersionNotSupported,
)
from localmodels.core.servers import MODEL_NAME, ServerSpec
from localmodels.flows.listed import Listed
from localmodels.flows.visit import Visit

log = logging.getLogger(__name__)

Connect = Callable[[ServerSpec], Carrier]

# What says something about our request to the server and not about the caller's to us.
_OURS = (
    Conflict,
    ExpectationFailed,
    HeadTooLarge,
    MethodNotAllowed,
    Misdirected,
    RequestTimeout,
    TargetTooLong,
    UnsupportedMedia,
    VersionNotSupported,
)
# Names that a server may have answered by without listing them; some answer by any, which strangers could make up.
MOST_CONFIRMED = 256


class Server:
    """One other server.

    Args:
        spec: as its owner describes it.
        carrier: the way to it.
        patience: seconds that a request may wait for one of its places.
        max_wait: the longest wait for one that is promised.
    """

    def __init__(self, spec: ServerSpec, carrier: Carrier, *, patience: float, max_wait: float = inf) -> None:
        self.spec = spec
        self.far = Far(spec, carrier)
        self.listed = Listed(spec, self.far.models, self._heard)
        self.places = Places(spec.name, spec.max_concurrent, spec.max_queue, patience=patience, max_wait=max_wait)
        self.failure = ""
        self._confirmed: set[str] = set()
        self._users = 0
        self._retired = False

    @property
    def name(self) -> str:
        """Stands before the names of its models."""
        return self.spec.name

    @asynccontextmanager
    async def place(self, visit: Visit, model: str) -> AsyncIterator[None]:
        """A place for one request; errors that come out of it are ours to hand on.

        Raises:
            QueueFull: there is none.
        """
        self._users += 1
        try:
            async with self.places.take(visit.caller.id, visit.caller.weight):
                yield
            self.failure = ""
        except LocalModelsError as error:
            raise self.said(error, model) from None
        finally:
            self._users -= 1
            if self._retired and not self._users:
                await self.far.close()

    def knows(self, model: str) -> bool:
        """Is this a model of this server, as far as it has told? Nobody is asked."""
        return model in self._confirmed or self.listed.has(f"{self.name}/{model}")

    def confirm(self, model: str) -> bool:
        """It has answered by this name; is the name remembered?"""
        if len(self._confirmed) < MOST_CONFIRMED:
            self._confirmed.add(model)
        return self.knows(model)

    def said(self, error: LocalModelsError, model: str = "") -> LocalModelsError:
        """The error as the caller shall hear it; the server's state remembers failures that are its own."""
        ours = translated(error, self.spec, model)
        if isinstance(ours, BackendError):
            self.failure = ours.message
        return ours

    def _heard(self, error: LocalModelsError | None) -> None:
        if error is None:
            self.failure = ""
        else:
            self.said(error)

    async def retire(self) -> None:
        """Takes no more requests; closes its connections when the last answer has ended."""
        self._retired = True
        self.listed.close()
        if not self._users:
            await self.far.close()

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        self.listed.close()
        await self.far.close()

    @property
    def answers(self) -> bool:
        """Did it, when it was asked last? Who has not been asked yet is thought well of."""
        return not self.failure

    def state(self) -> dict[str, Any]:
        """How it is, for people."""
        return {
            "name": self.name,
            "kind": self.spec.kind,
            "url": self.spec.url,
            "status": "up" if self.answers else "down",
            "busy": self.places.busy,
            "waiting": self.places.waiting,
            **({"failure": self.failure} if self.failure else {}),
        }


class Remotes:
    """All other servers, by name.

    Args:
        connect: the way to a server.
        patience: seconds that a request may wait for one of its places.
        max_wait: the longest such wait that is promised: who would wait longer is refused at once.
    """

    def __init__(self, connect: Connect | None = None, *, patience: float = 600.0, max_wait: float = inf) -> None:
        self._connect = connect or carrier_to
        self._patience = patience
        self._max_wait = max_wait
        self._servers: Mapping[str, Server] = {}
        self._bare: Mapping[str, Server] = {}

    async def adopt(
        self, specs: Iterable[ServerSpec], *, patience: float | None = None, max_wait: float | None = None
    ) -> None:
        """These servers from now on. Who stays as he was keeps his connections; who goes finishes what he has.

        Args:
            specs: all of them.
            patience: as at the beginning; None leaves it as it is.
            max_wait: likewise.
        """
        self._patience = self._patience if patience is None else patience
        self._max_wait = self._max_wait if max_wait is None else max_wait
        before = self._servers
        servers = {}
        for spec in specs:
            known = before.get(spec.name)
            servers[spec.name] = known if known and known.spec == spec else self._opened(spec)
        for server in servers.values():
            server.places.patience = self._patience
            server.places.max_wait = self._max_wait
        self._servers = servers
        self._bare = {model: server for server in servers.values() for model in server.spec.models}
        for server in before.values():
            if servers.get(server.name) is not server:
                await server.retire()

    def _opened(self, spec: ServerSpec) -> Server:
        if spec.key_file is not None and seen_by_others(spec.key_file):
            log.warning("the key of the server '%s' can be read by others: chmod 600 %s", spec.name, spec.key_file)
        return Server(spec, self._connect(spec), patience=self._patience, max_wait=self._max_wait)

    def servers(self) -> tuple[Server, ...]:
        """All, in the order of the configuration."""
        return tuple(self._servers.values())

    def find(self, name: str) -> tuple[Server, str] | None:
        """The server that this name means, and the model's name there.

        ``SERVER/MODEL``, or the bare name of a model that a server's table lists.
        """
        if server := self._bare.get(name):
            return server, name
        prefix, slash, model = name.partition("/")
        server = self._servers.get(prefix.lower()) if slash else None
        return (server, model) if server is not None and model and offers(server.spec, model) else None

    def of_kind(self, name: str) -> tuple[Server, str] | None:
        """The only server of this kind, for ``KIND/MODEL`` as other gateways' clients write it."""
        kind, slash, model = name.partition("/")
        servers = [server for server in self._servers.values() if server.spec.kind == kind.lower()]
        return (servers[0], model) if slash and model and len(servers) == 1 and offers(servers[0].spec, model) else None

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        for server in self._servers.values():
            await server.close()


def seen_by_others(file: Path) -> bool:
    """Can anybody but its owner read it?"""
    try:
        return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def offers(spec: ServerSpec, model: str) -> bool:
    """May this model be asked for there?"""
    return model in spec.models if spec.models else MODEL_NAME.fullmatch(model) is not None


def translated(error: LocalModelsError, spec: ServerSpec, model: str) -> LocalModelsError:
    """A server's error as ours: without our key, with the server's name, and blaming nobody who is not at fault."""
    if isinstance(error, (Unauthenticated, Forbidden)):
        return BackendError(f"the server '{spec.name}' refused our key")
    if isinstance(error, ModelNotFound):
        return ModelNotFound(f"{spec.name}/{model}")
    message = _without_key(error.message, spec)
    if message.startswith("the server ") and f"'{spec.name}'" not in message:
        message = f"the server '{spec.name}'{message.removeprefix('the server')}"
    if isinstance(error, _OURS):
        return BackendError(message)
    if isinstance(error, QuotaExceeded):  # ours there, not the caller's here
        return RateLimited(message, retry_after=error.retry_after)
    return error.reworded(message, _without_key(error.param, spec) if error.param else None)


def _without_key(text: str, spec: ServerSpec) -> str:
    """A server's words, in which it may have said our key again."""
    return text.replace(spec.key.reveal(), "***") if spec.key else text
