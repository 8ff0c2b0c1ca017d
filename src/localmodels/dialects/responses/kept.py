"""Responses and items as they are kept, and what is made of them later.

What is kept is this API's own JSON, so that it is shown again as it was; whoever keeps it never looks inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from localmodels.core.errors import LocalModelsError, NotFound
from localmodels.dialects.responses import wire
from localmodels.dialects.responses.answers import code_of
from localmodels.dialects.responses.items import Item, identified
from localmodels.dialects.strict_json import encode

MAX_LIMIT = 100
Order = Literal["asc", "desc"]


class _Kept(Struct):
    """As much of a response as matters later."""

    background: bool = False
    output: list[dict[str, Any]] = []


_KEPT = msgspec.json.Decoder(_Kept)
_ITEMS = msgspec.json.Decoder(list[dict[str, Any]])


def pack(items: Iterable[Item]) -> bytes:
    """Items as they are kept, each with an id."""
    return encode(identified(items))


def history(data: bytes, body: bytes) -> list[dict[str, Any]]:
    """The items of a response: what the caller sent and what the model said, but for calls that were broken off."""
    output = _KEPT.decode(body).output
    return [*_ITEMS.decode(data), *(item for item in output if not _broken(item))]


def _broken(item: dict[str, Any]) -> bool:
    return "call_id" in item and item.get("status") != "completed"


def is_background(body: bytes) -> bool:
    """Does the response come about without its caller?"""
    return _KEPT.decode(body).background


def failed(body: bytes, error: LocalModelsError, now: int) -> bytes:
    """The object of a response that nobody works on any more; ``now`` is in seconds."""
    fields = msgspec.json.decode(body)
    said = {"code": code_of(error), "message": error.message}
    return encode({**fields, "status": "failed", "completed_at": now, "error": said})


def listed(data: bytes, after: str, limit: int, order: Order) -> bytes:
    """A page of items, newest first unless ``order`` is ``asc``.

    Raises:
        NotFound: there is no item ``after``.
    """
    items = _ITEMS.decode(data)
    if order == "desc":
        items.reverse()
    start = _place(items, after) + 1 if after else 0
    page = items[start : start + limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return encode(wire.Listed(page, first, last, has_more=len(items) > start + limit))


def _place(items: Sequence[dict[str, Any]], wanted: str) -> int:
    for place, item in enumerate(items):
        if item["id"] == wanted:
            return place
    raise NotFound(f"item '{wanted[:80]}' not found", param="after")
