"""A host of the fleet as routing sees it: what its owner says, what it told when it was asked last, and how busy it is.

One owner: :class:`~localmodels.fleet.fleet.Fleet` changes hosts, as it hears of probes and of requests. Everybody else
reads. Names of models are compared as :func:`same_name` spells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from localmodels.core.catalog import Details
from localmodels.core.servers import ServerSpec

# `up` answers; `trying` was down and is given one request to prove itself; `down` is not asked; `unknown` was never
# asked, and is thought well of.
State = Literal["unknown", "up", "trying", "down"]
LATEST = ":latest"


def same_name(model: str) -> str:
    """The name of a model as its tag is compared: ``foo`` means ``foo:latest``."""
    return model if ":" in model.rpartition("/")[2] else model + LATEST


class Holding(Struct, frozen=True):
    """A model that a host has.

    Attributes:
        model: its name there.
        digest: hexadecimal; empty where the host does not tell.
        size: bytes; 0 where it does not tell.
        capabilities: what the model can do, and what its owner says it is for.
        context_length: tokens; 0 where the host does not tell.
        priority: this copy before others.
        modified_at: RFC 3339; empty where the host does not tell.
        details: family, size and quantization, as the host tells them.
        gateways: through which a request for it goes, the host as the first; empty where it is none (``core.via``).
    """

    model: str
    digest: str = ""
    size: int = 0
    capabilities: frozenset[str] = frozenset()
    context_length: int = 0
    priority: int = 0
    modified_at: str = ""
    details: Details = Details()
    gateways: tuple[str, ...] = ()


class Loaded(Struct, frozen=True):
    """A model in the memory of a host.

    Attributes:
        model: its name there.
        size: bytes it takes, of which ``size_vram`` on GPUs; 0 where the host does not tell.
        expires_at: RFC 3339; empty where the host does not tell.
        context_length: tokens of one request; 0 where the host does not tell.
        gateways: as those of a :class:`Holding`.
    """

    model: str
    size: int = 0
    size_vram: int = 0
    expires_at: str = ""
    context_length: int = 0
    gateways: tuple[str, ...] = ()


class Sight(Struct, frozen=True):
    """What a host told when it was asked.

    Attributes:
        at: seconds of the fleet's clock.
        version: of its program; empty where it does not tell.
        holdings: its models, by :func:`same_name`; those that its owner does not offer are left out.
        loaded: the models in its memory, by :func:`same_name`; None where it does not tell: then none is known to be
            warm, and none to be cold.
        memory_free: bytes that another model could take; None where it does not tell.
        busy: requests that it answers now, whoever sent them; None where it does not tell.
        gateway: what it calls itself on the way of requests; empty where it is no gateway.
    """

    at: float
    version: str = ""
    holdings: Mapping[str, Holding] = {}
    loaded: Mapping[str, Loaded] | None = None
    memory_free: int | None = None
    busy: int | None = None
    gateway: str = ""


class Host:
    """One of them.

    Attributes:
        spec: as its owner describes it.
        sight: what it told last; None before it has told anything.
        state: does it answer?
        proving: is the one request under way by which it may prove itself? Then it has no place for another.
        in_flight: requests of ours that it answers now.
        asked: the same by model, as :func:`same_name` spells it. What is asked there is in its memory or soon will be,
            whatever it told last: else everything that comes while a model is loaded would look for another host.
        elsewhere: requests that other gateways have there, as far as they say.
        kept: places that are the part of other gateways, whether they have them now or not.
        waiting: requests of ours that stand in its line; where several hosts suit one, it stands at one of them.
        service: running mean of the seconds that a request keeps a place; 0 before the first has ended.
        failure: why it is down, for people; empty while it answers.
        checked_at: nanoseconds since 1970, UTC, of the last probe that ended; 0 before.
    """

    __slots__ = (
        "asked",
        "checked_at",
        "elsewhere",
        "failure",
        "in_flight",
        "kept",
        "proving",
        "service",
        "sight",
        "spec",
        "state",
        "waiting",
    )

    def __init__(self, spec: ServerSpec, sight: Sight | None = None, state: State = "unknown") -> None:
        self.spec = spec
        self.sight = sight
        self.state: State = state
        self.proving = False
        self.in_flight = 0
        self.asked: dict[str, int] = {}
        self.elsewhere = 0
        self.kept = 0
        self.waiting = 0
        self.service = 0.0
        self.failure = ""
        self.checked_at = 0

    @property
    def free(self) -> bool:
        """Has it a place for one more request? ``max_concurrent`` 0 is without limit."""
        most = self.spec.max_concurrent
        return not self.proving and (not most or self.in_flight + max(self.elsewhere, self.kept) < most)

    @property
    def gateway(self) -> str:
        """What it calls itself on the way of requests; empty where it is no gateway, as far as it has told."""
        return self.sight.gateway if self.sight else ""

    def holds(self, model: str) -> Holding | None:
        """The model of this name (as :func:`same_name` spells it), if it has told of it."""
        return self.sight.holdings.get(model) if self.sight else None

    def is_warm(self, model: str) -> bool | None:
        """Is it in its memory? None where it does not tell."""
        if self.sight is None or self.sight.loaded is None:
            return None
        return model in self.sight.loaded
