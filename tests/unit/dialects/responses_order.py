"""Looks at the events of a streamed response: is each in its place, with its fields, under its number?

Shares no code with the dialect: the rules are those of OpenAI's reference and of what its clients rely on.
"""

from __future__ import annotations

import json
from typing import Any

FIELDS = {
    "response.created": {"response"},
    "response.queued": {"response"},
    "response.in_progress": {"response"},
    "response.completed": {"response"},
    "response.incomplete": {"response"},
    "response.failed": {"response"},
    "response.output_item.added": {"output_index", "item"},
    "response.output_item.done": {"output_index", "item"},
    "response.content_part.added": {"item_id", "output_index", "content_index", "part"},
    "response.content_part.done": {"item_id", "output_index", "content_index", "part"},
    "response.output_text.delta": {"item_id", "output_index", "content_index", "delta", "logprobs"},
    "response.output_text.done": {"item_id", "output_index", "content_index", "text", "logprobs"},
    "response.reasoning_text.delta": {"item_id", "output_index", "content_index", "delta"},
    "response.reasoning_text.done": {"item_id", "output_index", "content_index", "text"},
    "response.reasoning_summary_part.added": {"item_id", "output_index", "summary_index", "part"},
    "response.reasoning_summary_part.done": {"item_id", "output_index", "summary_index", "part"},
    "response.reasoning_summary_text.delta": {"item_id", "output_index", "summary_index", "delta"},
    "response.reasoning_summary_text.done": {"item_id", "output_index", "summary_index", "text"},
    "response.function_call_arguments.delta": {"item_id", "output_index", "delta"},
    "response.function_call_arguments.done": {"item_id", "output_index", "name", "arguments"},
    "response.custom_tool_call_input.delta": {"item_id", "output_index", "delta"},
    "response.custom_tool_call_input.done": {"item_id", "output_index", "input"},
    "error": {"code", "message", "param", "error"},
}
ENDS = {"response.completed", "response.incomplete", "error"}
# In every object, whatever its status.
RESPONSE = {
    "id", "object", "created_at", "completed_at", "status", "background", "error", "incomplete_details", "instructions",
    "max_output_tokens", "max_tool_calls", "model", "output", "parallel_tool_calls", "previous_response_id",
    "reasoning", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "usage",
    "user", "metadata", "service_tier", "prompt_cache_key", "safety_identifier", "presence_penalty",
    "frequency_penalty",
}  # fmt: skip


def parsed(data: bytes) -> list[dict[str, Any]]:
    """The events; each frame is a name, the same name in its data, and nothing else."""
    frames = data.split(b"\n\n")
    assert frames.pop() == b""
    events = []
    for frame in frames:
        name, line = frame.split(b"\n")
        event = json.loads(line.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    return events


def check(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Fails at the first event that is not in order; the response as it is at the end."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    items: dict[int, _Watched] = {}
    response: dict[str, Any] = {}
    ids = set()
    for place, event in enumerate(events):
        name = event["type"]
        assert set(event) == FIELDS[name] | {"type", "sequence_number"}, name
        assert (place == 0) == (name == "response.created"), "created is first, and only first"
        assert (place == len(events) - 1) == (name in ENDS), "one end, and nothing after it"
        if "response" in event:
            response = event["response"]
            ids.add(response["id"])
            assert set(response) >= RESPONSE
            assert set(response) - RESPONSE <= {"timings", "truncated_messages"}
        elif name == "response.output_item.added":
            assert event["output_index"] == len(items), "items come in the order of output"
            items[event["output_index"]] = _Watched(event["item"])
        elif name != "error":
            items[event["output_index"]].see(name.removeprefix("response."), event)
    assert len(ids) == 1
    if events[-1]["type"] != "error":
        assert [item.whole for item in items.values()] == response["output"]
        assert response["status"] == events[-1]["type"].removeprefix("response.")
        assert response["usage"] is not None
    return response


class _Watched:
    """An item, from its beginning on."""

    def __init__(self, item: dict[str, Any]) -> None:
        assert item["status"] == "in_progress"
        self._id, self._kind = item["id"], item["type"]
        self._steps = ["added"]
        self._text = ""
        self.whole: dict[str, Any] = {}

    def see(self, name: str, event: dict[str, Any]) -> None:
        if name == "output_item.done":
            assert not self.whole
            self.whole = event["item"]
            self._check_whole()
            return
        assert event["item_id"] == self._id
        what, step = name.split(".")
        if step == "delta":
            self._text += event["delta"]
        elif what.endswith("_part"):
            assert event["part"]["text"] == (self._text if step == "done" else "")
        else:
            assert next(event[key] for key in ("text", "arguments", "input") if key in event) == self._text
        if self._steps[-1] != step or step != "delta":
            self._steps.append(step)

    def _check_whole(self) -> None:
        parts = ["added", "delta", "done", "done"]
        filled = {"message": ["added", *parts], "reasoning": ["added", *parts]}.get(
            self._kind, ["added", "delta", "done"]
        )
        assert self._steps in (filled, [step for step in filled if step != "delta"])
        assert (self.whole["id"], self.whole["type"]) == (self._id, self._kind)
        assert self.whole["status"] in {"completed", "incomplete"}
        told = self.whole.get("content") or self.whole.get("summary")
        assert (told[0]["text"] if told else self.whole.get("arguments", self.whole.get("input"))) == self._text
