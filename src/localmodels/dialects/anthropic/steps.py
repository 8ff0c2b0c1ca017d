"""An answer as blocks, one after the other: the order that Anthropic's clients are promised, kept in one place.

The rule: one block is open at a time; it is closed before the next begins, and its number is the next one. Thoughts,
text and calls each have blocks of their own. Calls are told whole, since only a whole call shows whether its input is
an object: they come when the answer ends, or goes on with something else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Raw

from localmodels.core.chat import Chunk, Done, Event, Fold, ToolCall
from localmodels.dialects.anthropic import wire
from localmodels.dialects.anthropic.calls import as_text, id_of, input_of

Step = wire.BlockStart | wire.BlockDelta | wire.BlockStop
Kind = Literal["text", "thinking"]

# Clients drop thoughts without a signature. Ours proves nothing, and anything that comes back is taken.
SIGNATURE = "localmodels"
EMPTY = Raw(b"{}")


class Steps:
    """Turns the events of one answer into steps of its blocks.

    Args:
        id: of the answer, from which calls without an id get one.
        shows_thinking: may thoughts be told? If not, their blocks are empty.

    Attributes:
        called: how many calls have been told.
    """

    def __init__(self, id: str, *, shows_thinking: bool = True) -> None:  # noqa: A002
        self.called = 0
        self._id = id
        self._shows_thinking = shows_thinking
        self._index = -1  # of the block that is open, or was last
        self._open: Kind | None = None
        self._pending: Fold | None = None  # calls

    def take(self, event: Event) -> list[Step]:
        """The steps that this event makes."""
        steps: list[Step] = []
        if isinstance(event, Done):
            self._settle(steps)
            self._close(steps)
            return steps
        if event.thinking:
            self._think(event.thinking, steps)
        if event.text:
            self._settle(steps)
            self._say(event.text, steps)
        if event.tool_calls:
            self._pending = self._pending or Fold()
            self._pending.add(Chunk(tool_calls=event.tool_calls))
        return steps

    def _think(self, text: str, steps: list[Step]) -> None:
        self._settle(steps)
        self._begin("thinking", steps)
        if self._shows_thinking:
            steps.append(wire.BlockDelta(self._index, wire.ThinkingDelta(text)))

    def _say(self, text: str, steps: list[Step]) -> None:
        self._begin("text", steps)
        steps.append(wire.BlockDelta(self._index, wire.TextDelta(text)))

    def _settle(self, steps: list[Step]) -> None:
        """Tells the calls that have come; they are whole, or what comes after them is no part of them."""
        if self._pending is None:
            return
        self._pending.add(Done())
        calls, self._pending = self._pending.answer().tool_calls, None
        for call in calls:
            arguments = input_of(call)
            if arguments is None:
                self._say(as_text(call), steps)
            else:
                self._call(call, arguments, steps)

    def _call(self, call: ToolCall, arguments: bytes, steps: list[Step]) -> None:
        self._close(steps)
        self._index += 1
        known = id_of(call, f"toolu_{self._id}_{self.called}")
        self.called += 1
        steps += (
            wire.BlockStart(self._index, wire.ToolUse(known, call.name, EMPTY)),
            wire.BlockDelta(self._index, wire.InputDelta(arguments.decode())),
            wire.BlockStop(self._index),
        )

    def _begin(self, kind: Kind, steps: list[Step]) -> None:
        if self._open == kind:
            return
        self._close(steps)
        self._open = kind
        self._index += 1
        steps.append(wire.BlockStart(self._index, wire.Text("") if kind == "text" else wire.Thought("", "")))

    def _close(self, steps: list[Step]) -> None:
        if self._open == "thinking":
            steps.append(wire.BlockDelta(self._index, wire.SignatureDelta(SIGNATURE)))
        if self._open is not None:
            steps.append(wire.BlockStop(self._index))
        self._open = None


def gathered(steps: Iterable[Step]) -> tuple[wire.Content, ...]:
    """The blocks that the steps lead to."""
    blocks: list[wire.Content] = []
    for step in steps:
        if isinstance(step, wire.BlockStart):
            blocks.append(step.content_block)
        elif isinstance(step, wire.BlockDelta):
            _grow(blocks[step.index], step.delta)
    return tuple(blocks)


def _grow(block: wire.Content, delta: wire.Delta) -> None:
    if isinstance(block, wire.Text) and isinstance(delta, wire.TextDelta):
        block.text += delta.text
    elif isinstance(block, wire.Thought) and isinstance(delta, wire.ThinkingDelta):
        block.thinking += delta.thinking
    elif isinstance(block, wire.Thought) and isinstance(delta, wire.SignatureDelta):
        block.signature = delta.signature
    elif isinstance(block, wire.ToolUse) and isinstance(delta, wire.InputDelta):
        block.input = Raw(delta.partial_json.encode())
