"""Who is loaded, who is answered, who waits, who is refused: events in, decisions out.

The rule of this room: nothing here looks at a clock, starts a process, writes a log line or waits. ``engine.pool`` owns
the one :class:`Scheduler`, feeds it every event with the time, and carries out what it decides. ``docs/scheduler.md``
tells it as a story.
"""

from __future__ import annotations

from localmodels.engine.scheduler.core import Scheduler
from localmodels.engine.scheduler.states import State
from localmodels.engine.scheduler.values import (
    Admit,
    Cancel,
    Decision,
    Drain,
    Event,
    Finished,
    Limits,
    LimitsChanged,
    Need,
    Refuse,
    RunnerExited,
    RunnerFailed,
    RunnerReady,
    RunnerView,
    Snapshot,
    Start,
    Stop,
    StopReason,
    Submit,
    Tick,
    Ticket,
    Unload,
)

__all__ = [
    "Admit",
    "Cancel",
    "Decision",
    "Drain",
    "Event",
    "Finished",
    "Limits",
    "LimitsChanged",
    "Need",
    "Refuse",
    "RunnerExited",
    "RunnerFailed",
    "RunnerReady",
    "RunnerView",
    "Scheduler",
    "Snapshot",
    "Start",
    "State",
    "Stop",
    "StopReason",
    "Submit",
    "Tick",
    "Ticket",
    "Unload",
]
