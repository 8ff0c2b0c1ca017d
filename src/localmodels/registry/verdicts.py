"""What to make of an answer: of a status, and of what an answer to a request for a range says that it is. Pure.

The rule: what a registry says about a body is compared with what was asked before a byte of it is kept, and every lie
has a name.
"""

from __future__ import annotations

from msgspec import Struct

from localmodels.core.errors import (
    BackendError,
    Forbidden,
    Garbled,
    LocalModelsError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from localmodels.core.spans import Span


class Head(Struct, frozen=True):
    """What of an answer's head matters here.

    Attributes:
        span: first byte, one past the last, and the whole size (None for ``*``) of ``Content-Range``; None if there is
            none that can be read.
        length: of the body, where it is said.
        moved: another origin than the registry's answered.
    """

    status: int
    span: tuple[int, int, int | None] | None = None
    length: int | None = None
    moved: bool = False
    retry_after: float | None = None


def judge(head: Head, asked: Span, size: int) -> LocalModelsError | str:
    """What to make of an answer to a request for these bytes of a blob of this size.

    Returns ``part`` to read on as asked, ``whole`` when the body is the whole blob, or what is wrong with it.
    """
    if head.status == 206:
        return _judge_part(head, asked, size)
    if head.status == 200:
        if head.length is not None and head.length != size:
            return Garbled(f"the registry sends {head.length} bytes for a blob of {size}")
        return "whole"
    if head.status == 416:
        return Garbled("the registry says that the bytes asked for are past the blob's end")
    # A signed address of a content network ends at some moment; a fresh one comes with the next attempt.
    if head.moved and head.status in {400, 401, 403, 404, 410}:
        return Unavailable(f"the registry's storage answered {head.status}", retry_after=head.retry_after)
    return status_error(head.status, "blob of this model", head.retry_after)


def status_error(status: int, what: str, retry_after: float | None = None) -> LocalModelsError:
    """The error that a status stands for, when it is not the one that was hoped for."""
    if status in {408, 425, 429} or status >= 500:
        return Unavailable(f"the registry answered {status}", retry_after=retry_after)
    kind = {401: Unauthenticated, 403: Forbidden, 404: NotFound, 410: NotFound}.get(status)
    if kind is NotFound:
        return NotFound(f"the registry has no {what}")
    if kind is not None:
        return kind(f"the registry does not give us {what}; log in to it first")
    return BackendError(f"the registry answered {status} when asked for {what}")


def passes(error: LocalModelsError) -> bool:
    """May the same request succeed later, or elsewhere on the same registry?"""
    return isinstance(error, Unavailable) or (isinstance(error, BackendError) and type(error) is not BackendError)


def _judge_part(head: Head, asked: Span, size: int) -> LocalModelsError | str:
    if head.span is None:
        return Garbled("the registry sends a part and does not say which")
    start, stop, total = head.span
    if total not in {None, size}:
        return Garbled(f"the registry says that the blob has {total} bytes, and the manifest says {size}")
    # Less than was asked for is allowed (RFC 9110, 15.3.7); the rest is asked for again.
    if start != asked[0] or not start < stop <= asked[1]:
        return Garbled(f"the registry sends bytes {start}-{stop - 1} where {asked[0]}-{asked[1] - 1} were asked for")
    if head.length is not None and head.length != stop - start:
        return Garbled(f"the registry sends {head.length} bytes and calls them {start}-{stop - 1}")
    return "part"
