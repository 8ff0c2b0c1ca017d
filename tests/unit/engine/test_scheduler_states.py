"""The table of a runner's life: whole, closed, and drawn in the docs as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from localmodels.engine.scheduler.states import TRANSITIONS, State, Trigger, step

PAGE = Path(__file__).parents[3] / "docs" / "scheduler.md"


def drawing() -> list[str]:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STARTING.value}"]
    lines += [
        f"    {state.value} --> {after.value}: {trigger.value}" for (state, trigger), after in TRANSITIONS.items()
    ]
    return [*lines, f"    {State.GONE.value} --> [*]"]


def test_the_drawing_in_the_docs_is_the_table() -> None:
    blocks = re.findall(r"```mermaid\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    drawn = [block.rstrip().splitlines() for block in blocks if block.startswith("stateDiagram")]
    assert drawn == [drawing()]


def test_every_life_ends_and_nothing_comes_after() -> None:
    for state in State:
        if state is State.GONE:
            assert not any(before is state for before, _ in TRANSITIONS)
        else:
            assert step(state, Trigger.END) is State.GONE


def test_what_is_not_in_the_table_cannot_happen() -> None:
    for state in State:
        for trigger in Trigger:
            if (state, trigger) not in TRANSITIONS:
                with pytest.raises(ValueError, match=f"{state.value} cannot {trigger.value}"):
                    step(state, trigger)
