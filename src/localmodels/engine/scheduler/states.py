"""A runner's life as one table.

The rule: a state changes here or nowhere. What is not in the table cannot happen, and :func:`step` says so loudly; the
drawing in ``docs/scheduler.md`` is checked against the table by a test.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType


class State(Enum):
    """Where a runner is in its life. Whether a ready one is idle or busy follows from whom it answers."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"  # answers whom it has, takes nobody new
    STOPPING = "stopping"  # told to leave; its memory still counts
    GONE = "gone"


class Trigger(Enum):
    """What moves a runner on."""

    LOADED = "loaded"  # the model is in memory
    DRAIN = "drain"  # somebody else has waited long enough for this room
    REPRIEVE = "reprieve"  # nobody wants the room any more
    STOP = "stop"  # idle, and evicted, expired, unloaded or replaced
    END = "end"  # the process is gone, asked or not


_S, _T = State, Trigger

TRANSITIONS = MappingProxyType(
    {
        (_S.STARTING, _T.LOADED): _S.READY,
        (_S.STARTING, _T.STOP): _S.STOPPING,
        (_S.STARTING, _T.END): _S.GONE,
        (_S.READY, _T.DRAIN): _S.DRAINING,
        (_S.READY, _T.STOP): _S.STOPPING,
        (_S.READY, _T.END): _S.GONE,
        (_S.DRAINING, _T.REPRIEVE): _S.READY,
        (_S.DRAINING, _T.STOP): _S.STOPPING,
        (_S.DRAINING, _T.END): _S.GONE,
        (_S.STOPPING, _T.LOADED): _S.STOPPING,  # the load won the race against the stop; the stop still counts
        (_S.STOPPING, _T.END): _S.GONE,
    }
)


def step(state: State, trigger: Trigger) -> State:
    """The next state.

    Raises:
        ValueError: the table has no such pair; the caller is wrong.
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise ValueError(f"a runner that is {state.value} cannot {trigger.value}") from None
