"""Items of a response in the making: each knows its events from its beginning to its end, and itself at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from localmodels.core.chat import TokenLogprob
from localmodels.dialects.openai.wire import TokenLogprob as WireLogprob
from localmodels.dialects.openai.wire import TopLogprob as WireTop
from localmodels.dialects.responses import wire
from localmodels.dialects.responses.items import sealed
from localmodels.dialects.strict_json import encode

Fields = dict[str, Any]
# An event without its number.
Named = tuple[str, Fields]
# A tool's namespace, empty for none, and its name in it.
Name = tuple[str, str]


class Frames:
    """Numbers events and writes them down: the only place that does."""

    def __init__(self) -> None:
        self.number = 0

    def write(self, name: str, fields: Fields) -> bytes:
        """The next event."""
        data = encode({"type": name, "sequence_number": self.number, **fields})
        self.number += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), data)

    def all(self, named: Iterable[Named]) -> bytes:
        """The next events."""
        return b"".join(self.write(name, fields) for name, fields in named)


class Item(Protocol):
    """An item in the making."""

    status: wire.ItemStatus

    def open(self) -> Iterator[Named]: ...
    def close(self, status: wire.ItemStatus) -> Iterator[Named]: ...
    def written(self) -> wire.OutputItem: ...


class Message:
    """A text."""

    kind = "message"

    def __init__(self, item_id: str, place: int) -> None:
        self.status: wire.ItemStatus = "in_progress"
        self._id = item_id
        self._index = {"output_index": place}
        self._at: Fields = {"item_id": item_id, "output_index": place, "content_index": 0}
        self._texts: list[str] = []
        self._logprobs: list[WireLogprob] = []

    def open(self) -> Iterator[Named]:
        """Its beginning."""
        yield "response.output_item.added", {**self._index, "item": wire.MessageItem(self._id, self.status)}
        yield "response.content_part.added", {**self._at, "part": wire.OutputText("")}

    def add(self, text: str, logprobs: tuple[WireLogprob, ...]) -> Named:
        """Goes on."""
        self._texts.append(text)
        self._logprobs.extend(logprobs)
        return "response.output_text.delta", {**self._at, "delta": text, "logprobs": logprobs}

    def close(self, status: wire.ItemStatus) -> Iterator[Named]:
        """Its end."""
        self.status = status
        part = self._part()
        yield "response.output_text.done", {**self._at, "text": part.text, "logprobs": part.logprobs}
        yield "response.content_part.done", {**self._at, "part": part}
        yield "response.output_item.done", {**self._index, "item": self.written()}

    def written(self) -> wire.MessageItem:
        """The item as it is now."""
        return wire.MessageItem(self._id, self.status, (self._part(),))

    def _part(self) -> wire.OutputText:
        return wire.OutputText("".join(self._texts), logprobs=tuple(self._logprobs))


class Thought:
    """A thought, told as it is or as its ``summary``; ``encrypted`` adds it in a form that only we can read."""

    kind = "reasoning"

    def __init__(self, item_id: str, place: int, *, summary: bool, encrypted: bool) -> None:
        self.status: wire.ItemStatus = "in_progress"
        self._id = item_id
        self._summary = summary
        self._encrypted = encrypted
        self._index = {"output_index": place}
        self._at: Fields = {**self._index, "item_id": item_id, "summary_index" if summary else "content_index": 0}
        self._part_name = "response.reasoning_summary_part" if summary else "response.content_part"
        self._text_name = "response.reasoning_summary_text" if summary else "response.reasoning_text"
        self._texts: list[str] = []

    def open(self) -> Iterator[Named]:
        """Its beginning."""
        yield "response.output_item.added", {**self._index, "item": wire.ReasoningItem(self._id, self.status)}
        yield f"{self._part_name}.added", {**self._at, "part": self._part()}

    def add(self, text: str, logprobs: tuple[WireLogprob, ...]) -> Named:
        """Goes on; nobody asks how likely a thought is."""
        self._texts.append(text)
        return f"{self._text_name}.delta", {**self._at, "delta": text}

    def close(self, status: wire.ItemStatus) -> Iterator[Named]:
        """Its end."""
        self.status = status
        part = self._part()
        yield f"{self._text_name}.done", {**self._at, "text": part.text}
        yield f"{self._part_name}.done", {**self._at, "part": part}
        yield "response.output_item.done", {**self._index, "item": self.written()}

    def written(self) -> wire.ReasoningItem:
        """The item as it is now."""
        text = "".join(self._texts)
        item = wire.ReasoningItem(self._id, self.status, encrypted_content=sealed(text) if self._encrypted else UNSET)
        if self._summary:
            item.summary = (wire.SummaryText(text),)
        else:
            item.content = (wire.ReasoningText(text),)
        return item

    def _part(self) -> wire.ReasoningText | wire.SummaryText:
        text = "".join(self._texts)
        return wire.SummaryText(text) if self._summary else wire.ReasoningText(text)


class Call:
    """A call of a function, or of a ``custom`` tool."""

    def __init__(self, item_id: str, place: int, call_id: str, name: Name, *, custom: bool) -> None:
        self.status: wire.ItemStatus = "in_progress"
        self._custom = custom
        self._id = item_id
        self._index = {"output_index": place}
        self._at: Fields = {"item_id": item_id, "output_index": place}
        self._call_id = call_id
        namespace, self._name = name
        self._namespace = namespace or UNSET
        self._texts: list[str] = []

    @property
    def is_whole(self) -> bool:
        """Can nothing more come? Known of JSON alone."""
        if self._custom or self.status != "in_progress":
            return False
        try:
            return isinstance(msgspec.json.decode("".join(self._texts)), dict)
        except (msgspec.DecodeError, RecursionError):
            return False

    def open(self) -> Iterator[Named]:
        """Its beginning."""
        yield "response.output_item.added", {**self._index, "item": self.written()}

    def add(self, text: str) -> Named:
        """Goes on."""
        self._texts.append(text)
        name = "response.custom_tool_call_input.delta" if self._custom else "response.function_call_arguments.delta"
        return name, {**self._at, "delta": text}

    def close(self, status: wire.ItemStatus) -> Iterator[Named]:
        """Its end."""
        self.status = status
        text = "".join(self._texts)
        if self._custom:
            yield "response.custom_tool_call_input.done", {**self._at, "input": text}
        else:
            yield "response.function_call_arguments.done", {**self._at, "name": self._name, "arguments": text}
        yield "response.output_item.done", {**self._index, "item": self.written()}

    def written(self) -> wire.FunctionItem | wire.CustomItem:
        """The item as it is now."""
        kind = wire.CustomItem if self._custom else wire.FunctionItem
        return kind(self._id, self.status, self._call_id, self._name, "".join(self._texts), self._namespace)


def write_logprobs(tokens: Iterable[TokenLogprob], top: int) -> tuple[WireLogprob, ...]:
    """Tokens with as many alternatives as were asked for; here ``bytes`` is always a list."""
    return tuple(
        WireLogprob(
            token.token,
            token.logprob,
            token.bytes,
            tuple(WireTop(other.token, other.logprob, other.bytes) for other in token.top[:top]),
        )
        for token in tokens
    )
