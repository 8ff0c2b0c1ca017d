"""Another server, as its owner describes it: what asks it, and what it tells of its models."""

from __future__ import annotations

from localmodels.backends.http import Carrier, Http
from localmodels.backends.kinds import KINDS
from localmodels.backends.probes import Remembered
from localmodels.core import via
from localmodels.core.catalog import Description
from localmodels.core.errors import LoopDetected, Unsupported
from localmodels.core.servers import ServerSpec
from localmodels.dialects import failures, offered
from localmodels.dialects.protocol import Call
from localmodels.dialects.told import Told


class Far:
    """One of them.

    Args:
        spec: as its owner describes it.
        carrier: the way to it; closed with this object.

    Attributes:
        http: connections to it.
        backend: asks it.
    """

    def __init__(self, spec: ServerSpec, carrier: Carrier) -> None:
        self._name = spec.name
        self._kind = KINDS[spec.kind]
        self.http = Http(carrier, failures.read_error, spec.key)
        self.backend = self._kind.backend(self.http)
        self._remembered = Remembered()

    def passes(self, dialect: str, call: Call) -> bool:
        """Can a request in this dialect go there as it is?"""
        return dialect == self._kind.native and call in self._kind.passes

    async def look(self) -> Told:
        """How it is: asks it a few things that cost nothing there. One look at a time.

        Raises:
            LoopDetected: it is we who answer.
            LocalModelsError: it does not answer as a server of its kind does.
        """
        try:
            told = await self._kind.look(self.http, self._remembered)
            if told.gateway and told.gateway in via.way():
                raise LoopDetected("it is this very program under another address; its models are those of 'local'")
            return told
        except BaseException:  # also when it is cut off: whoever comes back may be another
            self._remembered.version = None
            raise

    async def describe(self, model: str) -> Description | None:
        """What it tells of one, by its name there; None where servers of its kind tell nothing.

        Raises:
            LocalModelsError: it does not tell.
        """
        if not self._kind.show:
            return None
        answer = await self.http.post(self._kind.show, offered.write_show(model))
        return offered.read_shown(self._name, model, answer)

    def require_unloads(self) -> None:
        """Looks whether it can be told to take a model out of memory.

        Raises:
            Unsupported: servers of its kind cannot.
        """
        if not self._kind.unload:
            tells = ", ".join(name for name, kind in KINDS.items() if kind.unload)
            why = (
                f"the server '{self._name}' decides itself what it has in memory; those of the kind {tells} can be told"
            )
            raise Unsupported(why, param="model_id")

    async def unload(self, model: str) -> None:
        """Tells it to take a model, by its name there, out of memory when its last answer has ended.

        Raises:
            Unsupported: as :meth:`require_unloads`.
            LocalModelsError: it refuses.
        """
        self.require_unloads()
        await self.http.post(self._kind.unload, offered.write_unload(model))

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        await self.http.close()
