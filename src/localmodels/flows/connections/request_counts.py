"""What requests met at the hosts of the fleet, counted: for whoever watches a fleet, and for nobody's decisions.

The one rule: figures belong to a host and not to its name. So they go with it when it is renamed, and are forgotten
when it leaves; a host that comes back begins anew, as counters may.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from localmodels.core.errors import LocalModelsError
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.targets import Target

ANSWERED = "answered"  # to its end
LEFT = "left"  # whoever wanted it has left, or this program ends
UNSUITED = "unsuited"  # it was not asked, since it cannot do what was wanted

Reason = Literal["session", "prefix", "warm", "cold", "unknown"]
"""What spoke most for a host: the conversation is at home there, it has read the beginning of the prompt, it has the
model in its memory; or what spoke against it; or it tells nothing of its memory."""


class Met:
    """The figures of one host.

    Attributes:
        ended: requests that had a place there, by how that ended: :data:`ANSWERED`, :data:`LEFT` or the code of an
            error.
        failovers: requests that went on to another host, by the code of the error, or :data:`UNSUITED`.
        refused: those that would have, had not so many been sent once more already.
        duplicates: those that went on although this host may have begun to answer.
        chosen: decisions for this host, by their :data:`Reason`.
        prompts: tokens of the prompts of these, as far as they were looked at.
        cached: tokens of them that it was said to hold.
        pulls: models that were fetched to it since nobody had them, by how that ended.
    """

    __slots__ = ("cached", "chosen", "duplicates", "ended", "failovers", "prompts", "pulls", "refused")

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.failovers: Counter[str] = Counter()
        self.refused = 0
        self.duplicates = 0
        self.chosen: Counter[str] = Counter()
        self.prompts = 0
        self.cached = 0
        self.pulls: Counter[str] = Counter()

    def chose(self, target: Target) -> None:
        """A decision was for this host."""
        self.chosen[reason_of(target)] += 1
        self.prompts += target.course.tokens
        self.cached += min(target.cached, target.course.tokens)


class Tally:
    """The figures of all hosts.

    Args:
        fleet: knows which there are.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._hosts: dict[Host, Met] = {}
        fleet.listen(self._heard)

    def at(self, host: Host) -> Met:
        """Those of this host, to be counted up; those of one that has left are thrown away."""
        met = self._hosts.get(host)
        if met is None:
            met = Met()
            if self._owns(host):
                self._hosts[host] = met
        return met

    def _owns(self, host: Host) -> bool:
        return self._fleet.host(host.id) is host

    def _heard(self, host: Host) -> None:
        if not self._owns(host):
            self._hosts.pop(host, None)


def outcome_of(error: BaseException | None) -> str:
    """How a request ended at a host, in one word of a few.

    Args:
        error: what the host met it with.
    """
    if isinstance(error, LocalModelsError):
        return error.code
    return ANSWERED if error is None else LEFT


def reason_of(target: Target) -> Reason:
    """What spoke most for a host."""
    if target.course.ask.sticky == target.id:
        return "session"
    if target.cached:
        return "prefix"
    return "unknown" if target.warm is None else "warm" if target.warm else "cold"
