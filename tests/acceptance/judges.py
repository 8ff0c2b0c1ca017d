"""One way to call an SDK that has a blocking and an asynchronous form, so that each test judges both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Judge(Protocol):
    """An SDK's client."""

    def ask(self, call: Callable[[Any], Any]) -> Any:
        """What a call of the client gives."""
        ...

    def pieces(self, call: Callable[[Any], Any]) -> list[Any]:
        """Everything that the stream of a call gives."""
        ...


class Blocking:
    """The blocking form."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def ask(self, call: Callable[[Any], Any]) -> Any:
        return call(self._client)

    def pieces(self, call: Callable[[Any], Any]) -> list[Any]:
        return list(call(self._client))


class Awaiting:
    """The asynchronous form, on one event loop."""

    def __init__(self, client: Any, loop: asyncio.Runner) -> None:
        self._client = client
        self._loop = loop

    def ask(self, call: Callable[[Any], Any]) -> Any:
        return self._loop.run(awaited(call(self._client)))

    def pieces(self, call: Callable[[Any], Any]) -> list[Any]:
        async def all_of_it() -> list[Any]:
            return [piece async for piece in await call(self._client)]

        return self._loop.run(all_of_it())


async def awaited(answer: Any) -> Any:
    """The answer, as the coroutine that a runner wants."""
    return await answer
