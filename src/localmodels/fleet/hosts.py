"""A host of the fleet as routing sees it: what its owner says, what it told when it was asked last, and how busy it is.

One owner: :class:`~localmodels.fleet.fleet.Fleet` changes hosts, as it hears of probes and of requests. Everybody else
reads. Names of models are compared as :func:`same_name` spells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from localmodels.core.catalog import Details
from localmodels.core.fleet import LOCAL
from localmodels.core.servers import ServerSpec

# `up` answers; `trying` was down and is given one request to prove itself; `down` is not asked; `unknown` was never
# asked, and is thought well of.
State = Literal["unknown", "up", "trying", "down"]
LATEST = ":latest"


def same_name(model: str) -> str:
    """The name of a model as its tag is compared: ``foo`` means ``foo:latest``."""
    return model if ":" in model.rpartition("/")[2] else model + LATEST


def id_of(spec: ServerSpec) -> str:
    """By what a server is known: its id, or its name where it has none."""
    return spec.id or spec.name


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
        id: by what it is known (:func:`id_of`); another description of the same host has the same.
        spec: as its owner describes it.
        sight: what it told last; None before it has told anything.
        state: does it answer?
        proving: is the one request under way by which it may prove itself? Then it has no place for another.
        in_flight: requests of ours that it answers now.
        asked: the same by model, as :func:`same_name` spells it; another mapping after every change, so that who keeps
            it knows what was asked then.
        others: places that are not ours: those that other gateways have, or their part if that is more.
        waiting: requests of ours that stand in its line; where several hosts suit one, it stands at one of them.
        service: running mean of the seconds that a request keeps a place; 0 before the first has ended.
        failure: why it is down, for people; empty while it answers.
        checked_at: nanoseconds since 1970, UTC, of the last probe that ended; 0 before.
    """

    __slots__ = (
        "_elsewhere",
        "_kept",
        "asked",
        "checked_at",
        "failure",
        "id",
        "in_flight",
        "others",
        "proving",
        "service",
        "sight",
        "spec",
        "state",
        "waiting",
    )

    def __init__(self, spec: ServerSpec, sight: Sight | None = None, state: State = "unknown") -> None:
        self.id = id_of(spec)
        self.spec = spec
        self.sight = sight
        self.state: State = state
        self.proving = False
        self.in_flight = 0
        self.asked: Mapping[str, int] = {}
        self.others = self._elsewhere = self._kept = 0
        self.waiting = 0
        self.service = 0.0
        self.failure = ""
        self.checked_at = 0

    @property
    def is_own(self) -> bool:
        """Is it our own engine?"""
        return self.spec.kind == LOCAL

    @property
    def is_shared(self) -> bool:
        """Are all its models offered under their bare names? Those of servers of the file only where tables say so."""
        return self.spec.registered or self.is_own

    @property
    def may_be_asked(self) -> bool:
        """Is it switched on, and not known to be down?"""
        return self.state != "down" and self.spec.is_active

    @property
    def elsewhere(self) -> int:
        """Requests that other gateways have there, as far as they say."""
        return self._elsewhere

    @elsewhere.setter
    def elsewhere(self, count: int) -> None:
        self._elsewhere = count
        self.others = max(count, self._kept)

    @property
    def kept(self) -> int:
        """Places that are the part of other gateways, whether they have them now or not."""
        return self._kept

    @kept.setter
    def kept(self, count: int) -> None:
        self._kept = count
        self.others = max(count, self._elsewhere)

    @property
    def taken(self) -> int:
        """Places that one more request of ours cannot have."""
        return self.in_flight + self.others

    @property
    def free(self) -> bool:
        """Has it a place for one more request? ``max_concurrent`` 0 is without limit."""
        most = self.spec.max_concurrent
        return not self.proving and (not most or self.taken < most)

    @property
    def gateway(self) -> str:
        """What it calls itself on the way of requests; empty where it is no gateway, as far as it has told."""
        return self.sight.gateway if self.sight else ""

    def holds(self, model: str) -> Holding | None:
        """The model of this name (as :func:`same_name` spells it), if it has told of it."""
        return self.sight.holdings.get(model) if self.sight else None

    def is_warm(self, model: str) -> bool | None:
        """Did it tell that this is in its memory? None where it does not tell."""
        return warmth(model, self.sight)

    def warmth(self, model: str) -> bool | None:
        """Will a request find this in its memory?"""
        return warmth(model, self.sight, self.asked)


def warmth(model: str, sight: Sight | None, asked: Mapping[str, int] = {}) -> bool | None:
    """Is a model in the memory of a host, for the next request? None where the host does not tell.

    What is asked there is in its memory or soon will be, whatever it told last: else everything that comes while a
    model is loaded would look for another host.

    Args:
        model: as :func:`same_name` spells it.
        sight: what the host told.
        asked: requests that it answers now, by model.
    """
    loaded = sight.loaded if sight else None
    return model in loaded or model in asked if loaded is not None else model in asked or None
