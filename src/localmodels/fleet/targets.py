"""What routing is asked, and what it answers.

The rule: these are values of one moment. What they tell of a host is how it was when the decision was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from localmodels.dialects.protocol import Call
from localmodels.fleet.affinity import Prefix
from localmodels.fleet.hosts import Holding, Host, State, View, same_name


class Ask(Struct, frozen=True):
    """A request, as far as routing cares.

    Attributes:
        model: its name; ``auto`` and ``auto:CAPABILITY`` leave the choice to us, unless a host has one of that name.
        capability: what the model must be able to do, or its host be there for, besides what the name says.
        call: what is asked of it.
        prefix: marks of the prompt; empty where nobody looked.
        tokens: of the whole prompt; 0 takes the prefix's word.
        sticky: id of the host at which the conversation is at home; empty for none.
        excluded: ids of hosts that are not asked, whatever the model: they have failed this request.
        rests: copies that are not asked, as ids of hosts and models (as :func:`same_name` spells them).
        dared: ids of hosts that may be asked though they are down.
        once: it may be generated only once, so that no host proves itself by it as long as there is another.
        may: is a model among those that the caller may use, where the choice is ours? None where all are.
    """

    model: str
    capability: str = ""
    call: Call = "chat"
    prefix: Prefix = ()
    tokens: int = 0
    sticky: str = ""
    excluded: frozenset[str] = frozenset()
    rests: frozenset[tuple[str, str]] = frozenset()
    dared: frozenset[str] = frozenset()
    once: bool = False
    may: Callable[[str], bool] | None = None


class Course(Struct, frozen=True, gc=False):
    """What all targets of one decision have in common.

    Attributes:
        policy: its name in the table.
        ask: the request.
        model: its model, as :func:`~localmodels.fleet.hosts.same_name` spells it; empty where none was found.
        wishes: what the model must be able to do, or its host be there for.
        tokens: of the prompt.
        cached: how many of them hosts most likely hold, by their ids.
        turn: the number of this decision.
        passed_over: ids of the hosts that are not asked for this model.
    """

    policy: str
    ask: Ask
    model: str
    wishes: frozenset[str] = frozenset()
    tokens: int = 0
    cached: Mapping[str, int] = {}
    turn: int = 0
    passed_over: frozenset[str] = frozenset()


class Target(Struct, frozen=True, gc=False):
    """Where a request may go.

    Attributes:
        host: who answers.
        view: how it was.
        holding: the model there.
        course: the decision.
    """

    host: Host
    view: View
    holding: Holding
    course: Course

    @property
    def id(self) -> str:
        """Of the host."""
        return self.view.id

    @property
    def model(self) -> str:
        """Its name there."""
        return self.holding.model

    @property
    def state(self) -> State:
        """How it answered."""
        return self.view.state

    @property
    def busy(self) -> int:
        """Places that were taken there."""
        return self.view.busy

    @property
    def free(self) -> bool:
        """Had it a place? ``max_concurrent`` 0 is without limit; who has to prove himself has one."""
        return self.view.free

    @property
    def warm(self) -> bool | None:
        """Was the model in its memory, for this request?"""
        return self.view.warmth(self.course.model)

    @property
    def cached(self) -> int:
        """Tokens of the prompt that it most likely holds: none of a model that is not in its memory."""
        return self.course.cached.get(self.view.id, 0) if self.warm is not False else 0

    @property
    def reason(self) -> str:
        """What spoke for it and against it, in one line: ``auto; warm, prefix 812/900, 1 of 4 busy``."""
        return f"{self.course.policy}; {', '.join(filter(None, self._words()))}"

    def _words(self) -> tuple[str, ...]:
        course, spec = self.course, self.view.spec
        return (
            course.model if course.model != same_name(course.ask.model) else "",  # the choice of it was ours
            "session" if course.ask.sticky == self.id else "",
            "proves itself" if self.state in {"trying", "down"} else "",
            f"priority {spec.priority}" if spec.priority else "",
            _WARM[self.warm],
            f"prefix {min(self.cached, course.tokens)}/{course.tokens}" if self.cached else "",
            f"{self.busy} of {spec.max_concurrent} busy" if spec.max_concurrent else f"{self.busy} busy",
        )


class LeftOut(Struct, frozen=True):
    """A host that the request may not go to, and why."""

    host: Host
    reason: str


class Explanation(Struct, frozen=True):
    """A decision with its reasons.

    Attributes:
        model: that was decided for; empty where ``auto`` found none.
        policy: by which.
        targets: in order.
        left_out: all other hosts.
    """

    model: str
    policy: str
    targets: tuple[Target, ...]
    left_out: tuple[LeftOut, ...]


_WARM: Mapping[bool | None, str] = {True: "warm", False: "cold", None: ""}
