"""A host of the fleet as routing sees it: what its owner says, what it told when it was asked last, and how busy it is.

Two owners: :class:`~localmodels.fleet.fleet.Fleet` changes how a host is, as it hears of probes and of requests;
:class:`~localmodels.fleet.turns.Turns` what it has to do (``in_flight``, ``asked``, ``waiting``, ``service``).
Everybody else reads. Names of models are compared as :func:`same_name` spells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from localmodels.core.catalog import Details
from localmodels.core.fleet import LOCAL
from localmodels.core.servers import ServerSpec

# `up` answers; `trying` was down and is given one request to prove itself; `down` is not asked; `unknown` was never
# asked, and is thought well of.
State = Literal["unknown", "up", "trying", "down"]
LATEST = ":latest"
# Requests at which a host without a limit counts as crowded.
CROWDED = 8
# The most that a host has to do, in places: what weighs more than that stands beside it in one number (`policies`).
MOST_LOAD = 1e6

_set = object.__setattr__


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
        listed: has the host it, as far as can be known? Else it stands in the host's table alone, and may be asked for.
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
    listed: bool = True


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
        more: has it further models, beyond the bound of a list?
        whole: does it answer by no other names than those that it told?
        ranked: has any of its models a priority? Worked out, since decisions look at all hosts.
    """

    at: float
    version: str = ""
    holdings: Mapping[str, Holding] = {}
    loaded: Mapping[str, Loaded] | None = None
    memory_free: int | None = None
    busy: int | None = None
    gateway: str = ""
    more: bool = False
    whole: bool = False
    ranked: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "ranked", any(holding.priority for holding in self.holdings.values()))


class View(Struct, frozen=True, gc=False):
    """How a host is at one moment, with what every decision needs of it worked out: decisions look at all hosts.

    Attributes:
        id: of the host.
        spec: as its owner describes it.
        state: does it answer?
        closed: why nobody may be sent there, whatever he asks; empty if he may.
        is_plain: is it open and has nothing to prove, as nearly all?
        is_even: is it as fast as others, and not the default?
        is_own: is it our own engine?
        priority: before others.
        ranked: has any of its models a priority of its own?
        holdings: its models, by :func:`same_name`; none before it has told of any.
        loaded: those in its memory, as it told; None where it does not tell.
        asked: those that it was asked for, and how often.
        memory_free: bytes that another model could take; None where it does not tell.
        there_for: what its owner says that it is for.
        busy: places that one more request of ours cannot have.
        free: has it a place for one?
        share: of its places that are taken.
        load: what it has to do, with those who wait for it, as a share of what it can do at once.
    """

    id: str
    spec: ServerSpec
    state: State
    closed: str
    is_plain: bool
    is_even: bool
    is_own: bool
    priority: int
    ranked: bool
    holdings: Mapping[str, Holding]
    loaded: Mapping[str, Loaded] | None
    asked: Mapping[str, int]
    memory_free: int | None
    there_for: frozenset[str]
    busy: int
    free: bool
    share: float
    load: float

    def warmth(self, model: str) -> bool | None:
        """Is this (as :func:`same_name` spells it) in its memory, for the next request? None where it does not tell.

        What is asked there is in its memory or soon will be, whatever it told last: else everything that comes while a
        model is loaded would look for another host.
        """
        if model in self.asked:
            return True
        return None if self.loaded is None else model in self.loaded


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
        view: how it is, if somebody has looked since anything changed (:meth:`look`).
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
        "view",
        "waiting",
    )

    view: View | None

    def __init__(self, spec: ServerSpec, sight: Sight | None = None, state: State = "unknown") -> None:
        _set(self, "view", None)
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

    def __setattr__(self, name: str, value: object) -> None:
        _set(self, name, value)
        if self.view is not None:
            _set(self, "view", None)  # whatever it is that changed: no view of it is ever old

    def look(self) -> View:
        """How it is now: the same view as long as nothing changes."""
        view = self.view
        if view is None:
            view = _view_of(self)
            _set(self, "view", view)
        return view

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
        return not self.proving and (not most or self.in_flight + self.others < most)

    @property
    def gateway(self) -> str:
        """What it calls itself on the way of requests; empty where it is no gateway, as far as it has told."""
        return self.sight.gateway if self.sight else ""

    def holds(self, model: str) -> Holding | None:
        """The model of this name (as :func:`same_name` spells it), if it has told of it."""
        return self.sight.holdings.get(model) if self.sight else None

    def is_warm(self, model: str) -> bool | None:
        """Did it tell that this is in its memory? None where it does not tell."""
        loaded = self.sight.loaded if self.sight else None
        return None if loaded is None else model in loaded

    def warmth(self, model: str) -> bool | None:
        """Will a request find this in its memory? See :meth:`View.warmth`."""
        return self.look().warmth(model)


def _view_of(host: Host) -> View:
    spec, sight = host.spec, host.sight
    busy, most = host.taken, spec.max_concurrent or CROWDED
    closed = _closed(host)
    return View(
        id=host.id,
        spec=spec,
        state=host.state,
        closed=closed,
        is_plain=not closed and host.state != "trying",
        is_even=spec.weight == 1.0 and not spec.is_default,
        is_own=spec.kind == LOCAL,
        priority=spec.priority,
        ranked=sight.ranked if sight else False,
        holdings=sight.holdings if sight else {},
        loaded=sight.loaded if sight else None,
        asked=host.asked,
        memory_free=sight.memory_free if sight else None,
        there_for=frozenset(spec.capabilities),
        busy=busy,
        free=host.free,
        share=busy / most,
        load=min(MOST_LOAD, (busy + host.waiting) / most / spec.weight),
    )


def _closed(host: Host) -> str:
    if not host.spec.is_active:
        return "is switched off"
    if host.state == "down":
        return f"is down: {host.failure}" if host.failure else "is down"
    return "" if host.sight else "has not told its models yet"
