"""One tool call and no more, for who wants no calls in parallel.

Engines are told, and some of them do not listen. The rule: the first call is told whole, of the others nothing; by the
flow of chats, so that every dialect keeps its word.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Chunk, Done, Event

Read = Callable[[list[Event]], list[Event]]


def one_call(request: ChatRequest) -> Read:
    """Makes of the events of an answer those that this request is answered with."""
    return FirstCall().read if request.tools and request.parallel_tool_calls is False else _as_they_are


def _as_they_are(events: list[Event]) -> list[Event]:
    return events


class FirstCall:
    """Keeps the call that begins first."""

    def __init__(self) -> None:
        self._index: int | None = None

    def read(self, events: list[Event]) -> list[Event]:
        """The events without the calls that are too many."""
        return [told for event in events if (told := self._told(event)) != _NOTHING]

    def _told(self, event: Event) -> Event:
        if isinstance(event, Done) or not event.tool_calls:
            return event
        if self._index is None:
            self._index = event.tool_calls[0].index
        return replace(event, tool_calls=tuple(call for call in event.tool_calls if call.index == self._index))


_NOTHING = Chunk()
