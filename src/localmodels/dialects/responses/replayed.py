"""A response that has ended, told once more as events: those of its life, with each item in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from localmodels.dialects.openai.wire import TokenLogprob as WireLogprob
from localmodels.dialects.responses import wire
from localmodels.dialects.responses.answers import CANCELLED
from localmodels.dialects.responses.making import Call, Frames, Message, Named, Thought

_UNTOLD: dict[str, Any] = {"status": "in_progress", "output": [], "usage": None, "completed_at": None, "error": None}


class _Item(msgspec.Struct):
    """An item as we wrote it."""

    id: str
    type: str
    status: wire.ItemStatus = "completed"
    content: list[wire.ReadPart] = []
    summary: list[wire.ReadPart] = []
    encrypted_content: str = ""
    call_id: str = ""
    name: str = ""
    namespace: str = ""
    arguments: str = ""
    input: str = ""


def replayed(body: bytes, after: int = -1) -> bytes:
    """The events of the response in ``body`` whose number is greater than ``after``."""
    frames = Frames()
    written = [frames.write(name, fields) for name, fields in _events(msgspec.json.decode(body))]
    return b"".join(written[max(0, after + 1) :])


def _events(response: dict[str, Any]) -> Iterator[Named]:
    begun = {**response, **_UNTOLD, "incomplete_details": None}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for place, item in enumerate(response["output"]):
        yield from _told(msgspec.convert(item, _Item), place)
    if response["status"] != "cancelled":
        yield f"response.{response['status']}", {"response": response}
    if response["status"] in {"cancelled", "failed"}:
        error = response["error"] or {"code": "response_cancelled", "message": CANCELLED}
        said = {"code": error["code"], "message": error["message"], "param": None}
        yield "error", {**said, "error": {"type": "server_error", **said}}


def _told(item: _Item, place: int) -> Iterator[Named]:
    if item.type == "message":
        text = "".join(part.text or "" for part in item.content)
        logprobs: tuple[WireLogprob, ...] = item.content[0].logprobs or () if item.content else ()
        message = Message(item.id, place)
        yield from message.open()
        yield message.add(text, logprobs)
        yield from message.close(item.status)
    elif item.type == "reasoning":
        told = item.summary or item.content
        thought = Thought(item.id, place, summary=bool(item.summary), encrypted=bool(item.encrypted_content))
        yield from thought.open()
        yield thought.add("".join(part.text or "" for part in told), ())
        yield from thought.close(item.status)
    else:
        custom = item.type == "custom_tool_call"
        call = Call(item.id, place, item.call_id, (item.namespace, item.name), custom=custom)
        yield from call.open()
        yield call.add(item.input if custom else item.arguments)
        yield from call.close(item.status)
