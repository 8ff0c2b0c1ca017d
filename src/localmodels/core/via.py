"""Which gateways a request has passed, so that two that stand behind each other do not pass it on for ever.

Each writes itself into :data:`HEADER` of what it sends on. The one rule: work that comes back to where it was, or has
passed more gateways than anybody has in a row, ends there. Looks are answered: two gateways may well show each other
what they have. So that a list never comes back to who began it, each gateway tells another through whom it has a
model, and does not count what it has only through those who ask (:func:`leads`).

The way of a request belongs to its task and to those that it starts, as its context; nobody else can change it.
"""

from __future__ import annotations

import os
import re
from contextvars import ContextVar

from localmodels.core.errors import InvalidRequest, LoopDetected

HEADER = "X-LocalModels-Via"
MOST = 4  # gateways one behind the other; two are a site and its headquarters

_GATEWAY = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GATEWAYS = re.compile(rf"{_GATEWAY.pattern}(?:, ?{_GATEWAY.pattern})*")
_way: ContextVar[tuple[str, ...]] = ContextVar("way", default=())


def new_gateway() -> str:
    """What a gateway calls itself on the way of requests; of no use for anything else."""
    return os.urandom(6).hex()


def begin(gateway: str) -> None:
    """What this task and those that it starts from now on send, is sent by this gateway of itself."""
    _way.set((gateway,))


def arrive(told: str, gateway: str, *, looks: bool = False) -> None:
    """A request is here now; what its task sends on tells so.

    Args:
        told: its :data:`HEADER`; empty if it has none.
        gateway: who we are.
        looks: does it only ask what there is?

    Raises:
        LoopDetected: it was here before, or has come too far.
        InvalidRequest: the header is none of ours.
    """
    if told and not _GATEWAYS.fullmatch(told):
        raise InvalidRequest(f"{HEADER} is for gateways alone: names with commas between them")
    before = tuple(name.strip() for name in told.split(",")) if told else ()
    if gateway in before and not looks:
        raise LoopDetected("this request has been here before: a server behind this one leads back to it")
    if len(before) >= MOST:
        raise LoopDetected(f"this request has passed {len(before)} gateways, which is as many as may be")
    _way.set((*before, gateway))


def way() -> tuple[str, ...]:
    """The gateways that the request of this task has passed, this one as the last; empty outside of requests."""
    return _way.get()


def on_own() -> None:
    """What this task and those that it starts ask from now on, this gateway asks for itself, whoever is the cause."""
    _way.set(_way.get()[-1:])


def leads(through: tuple[str, ...], passed: tuple[str, ...]) -> bool:
    """Can a request that has passed these gateways go on through those, and be answered?"""
    return not through or (len(passed) + len(through) <= MOST and not {*through}.intersection(passed))


def is_name(told: object) -> bool:
    """Can a gateway call itself so?"""
    return isinstance(told, str) and _GATEWAY.fullmatch(told) is not None


def names(told: object) -> tuple[str, ...]:
    """The gateways that somebody tells of; of more than a request may pass, one too many are enough to know it."""
    return tuple(filter(is_name, told[: MOST + 1])) if isinstance(told, (list, tuple)) else ()


def told() -> str:
    """What :data:`HEADER` says of the request of this task; empty outside of requests."""
    return ", ".join(_way.get())
