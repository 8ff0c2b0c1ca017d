"""``/openapi.json`` and ``/docs``, made at the first request: most servers are never asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol, cast

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from localmodels.server.late import loaded
from localmodels.server.routes import Row
from localmodels.server.wire import respond

DOCUMENT, PAGE = "localmodels.server.openapi.document", "localmodels.server.openapi.page"


class _Documents(Protocol):
    def document(self, rows: Sequence[Row]) -> dict[str, Any]: ...


class _Pages(Protocol):
    POLICY: bytes

    def page(self, document: dict[str, Any]) -> str: ...


class Description:
    """The two endpoints.

    Args:
        rows: gives the server's table, which these endpoints are themselves in.
    """

    def __init__(self, rows: Callable[[], Sequence[Row]]) -> None:
        self._rows = rows

    @cached_property
    def _document(self) -> dict[str, Any]:
        # The module is loaded here and not at the start: it knows the wire types of every dialect.
        return cast("_Documents", loaded(DOCUMENT)).document(self._rows())

    @cached_property
    def _json(self) -> bytes:
        return msgspec.json.encode(self._document)

    def as_json(self) -> ASGIApp:
        """``/openapi.json``."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, 200, await asyncio.to_thread(lambda: self._json))

        return answer

    def as_page(self) -> ASGIApp:
        """``/docs``."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            pages = cast("_Pages", await asyncio.to_thread(loaded, PAGE))
            text = await asyncio.to_thread(lambda: pages.page(self._document))
            policy = [(b"content-security-policy", pages.POLICY)]
            await respond(send, 200, text.encode(), "text/html; charset=utf-8", policy)

        return answer
