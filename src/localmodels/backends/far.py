"""Another server, as its owner describes it: what asks it, and what it tells of its models."""

from __future__ import annotations

from localmodels.backends.http import Carrier, Http
from localmodels.backends.kinds import KINDS
from localmodels.core.catalog import Description, Model
from localmodels.core.servers import ServerSpec
from localmodels.dialects import failures, offered
from localmodels.dialects.protocol import Call


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
        self.http = Http(carrier, failures.read_error)
        self.backend = self._kind.backend(self.http)

    def passes(self, dialect: str, call: Call) -> bool:
        """Can a request in this dialect go there as it is?"""
        return dialect == self._kind.native and call in self._kind.passes

    async def models(self) -> tuple[Model, ...]:
        """All that it lists, under our names for them.

        Raises:
            LocalModelsError: it does not tell.
        """
        return self._kind.read_models(self._name, await self.http.get(self._kind.models))

    async def describe(self, model: str) -> Description | None:
        """What it tells of one, by its name there; None where servers of its kind tell nothing.

        Raises:
            LocalModelsError: it does not tell.
        """
        if not self._kind.show:
            return None
        answer = await self.http.post(self._kind.show, offered.write_show(model))
        return offered.read_shown(self._name, model, answer)

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        await self.http.close()
