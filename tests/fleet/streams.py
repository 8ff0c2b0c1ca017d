"""Streams in every dialect of ours: how each is asked for, and what its end says, read without any code of ours.

The rule: whoever reads here believes nothing but the bytes. A frame that is no JSON is an error of the proof.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct


class Told(Struct, frozen=True):
    """What a stream came to.

    Attributes:
        text: all that was said.
        error: the words of the error with which it ended; empty where it did not end with one.
        success: the first sign that it ended well; empty where there is none.
    """

    text: str
    error: str
    success: str


class Spoken(Struct, frozen=True):
    """A route that streams.

    Attributes:
        path: of the route.
        native: kinds of servers to which its requests pass as they are.
        ask: the fields of a question beside its model.
        read: what the body of a stream says.
        kinds: of servers that can answer it at all.
    """

    path: str
    native: frozenset[str]
    ask: Callable[[str], Mapping[str, Any]]
    read: Callable[[str], Told]
    kinds: tuple[str, ...] = ("ollama", "openai", "llamacpp", "anthropic")


def lines(body: str) -> Iterator[dict[str, Any]]:
    """The objects of a body that has one a line."""
    for line in body.splitlines():
        if line:
            yield json.loads(line)


def events(body: str) -> Iterator[dict[str, Any]]:
    """The objects of server-sent events; the end without one is ``{"end": true}``."""
    for line in body.splitlines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield {"end": True} if data == "[DONE]" else json.loads(data)


def read_ollama(body: str) -> Told:
    """What ``/api/chat`` and ``/api/generate`` stream."""
    objects = list(lines(body))
    text = "".join((one.get("message") or {}).get("content", "") + one.get("response", "") for one in objects)
    return Told(text, _error(objects), "done" if any(one.get("done") for one in objects) else "")


def read_openai(body: str) -> Told:
    """What ``/v1/chat/completions`` and ``/v1/completions`` stream."""
    objects = list(events(body))
    choices = [choice for one in objects for choice in one.get("choices") or ()]
    text = "".join((choice.get("delta") or {}).get("content") or choice.get("text") or "" for choice in choices)
    ends = ["[DONE]" for one in objects if "end" in one] + [one["finish_reason"] for one in choices]
    return Told(text, _error(objects), next(filter(None, ends), ""))


def read_responses(body: str) -> Told:
    """What ``/v1/responses`` streams."""
    objects = list(events(body))
    text = "".join(one["delta"] for one in objects if one.get("type") == "response.output_text.delta")
    last = objects[-1]
    failed = last.get("response", {}).get("error") if last.get("type") == "response.failed" else None
    error = (failed or {}).get("message", "") or (last.get("message", "") if last.get("type") == "error" else "")
    good = {"response.completed", "response.incomplete"}
    return Told(text, error, next((one["type"] for one in objects if one.get("type") in good), ""))


def read_messages(body: str) -> Told:
    """What ``/v1/messages`` streams."""
    objects = list(events(body))
    text = "".join((one.get("delta") or {}).get("text", "") for one in objects if one["type"] == "content_block_delta")
    stops = [one for one in objects if one["type"] == "message_stop" or (one.get("delta") or {}).get("stop_reason")]
    return Told(text, _error(objects), stops[0]["type"] if stops else "")


def read_plain(body: str) -> Told:
    """What ``/chat`` streams."""
    objects = list(events(body))
    text = "".join(one.get("response") or "" for one in objects)
    good = next(("usage" if "usage" in one else "[DONE]" for one in objects if "usage" in one or "end" in one), "")
    return Told(text, _error(objects), good)


def _error(objects: list[dict[str, Any]]) -> str:
    last = objects[-1] if objects else {}
    error = last.get("error") or last.get("detail") or ""
    return str(error.get("message", "")) if isinstance(error, dict) else str(error)


def _conversation(text: str) -> Mapping[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": 99}


OPENAI = frozenset({"openai", "llamacpp"})
SPOKEN: tuple[Spoken, ...] = (
    Spoken("/api/chat", frozenset({"ollama"}), _conversation, read_ollama),
    Spoken("/api/generate", frozenset({"ollama"}), lambda text: {"prompt": text, "stream": True}, read_ollama),
    Spoken("/v1/chat/completions", OPENAI, _conversation, read_openai),
    Spoken(
        "/v1/completions", OPENAI, lambda text: {"prompt": text, "stream": True}, read_openai,
        kinds=("ollama", "openai", "llamacpp"),
    ),
    Spoken("/v1/messages", frozenset({"anthropic"}), _conversation, read_messages),
    Spoken("/v1/responses", frozenset(), lambda text: {"input": text, "stream": True, "store": False}, read_responses),
    Spoken("/chat", frozenset(), lambda text: {"message": text, "stream": True}, read_plain),
)  # fmt: skip
