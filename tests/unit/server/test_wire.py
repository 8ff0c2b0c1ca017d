"""The few ASGI moves: bodies of any split, limits, and work that ends when its client does."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from localmodels.core.errors import QueueFull, TooLarge
from localmodels.server.edge.seam import EDGE
from localmodels.server.wire import ClientGone, ClientStalled, attended, impatient, read_body, retry_headers


def messages(*parts: dict[str, Any]) -> Any:
    queue = list(parts)

    async def receive() -> dict[str, Any]:
        if queue:
            return queue.pop(0)
        await asyncio.Event().wait()  # a client that stays and says nothing more
        raise AssertionError

    return receive


def piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


def test_a_body_in_one_piece_and_in_several() -> None:
    assert asyncio.run(read_body(messages(piece(b"abc")))) == b"abc"
    assert asyncio.run(read_body(messages(piece(b"a", True), piece(b"", True), piece(b"bc")))) == b"abc"


def test_a_body_over_the_limit_is_refused_before_the_rest_is_read() -> None:
    with pytest.raises(TooLarge):
        asyncio.run(read_body(messages(piece(b"abcd")), limit=3))
    with pytest.raises(TooLarge):
        asyncio.run(read_body(messages(piece(b"ab", True), piece(b"cd", True)), limit=3))


def test_a_client_that_leaves_in_the_middle_of_its_body() -> None:
    with pytest.raises(ClientGone):
        asyncio.run(read_body(messages(piece(b"ab", True), GONE)))


def test_work_is_cancelled_when_the_client_leaves() -> None:
    async def run() -> list[str]:
        log: list[str] = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                log.append("ended")

        await attended({}, messages(GONE), work())
        log.append("returned")
        return log

    assert asyncio.run(run()) == ["ended", "returned"]


def test_work_that_ends_first_is_not_disturbed_and_its_errors_come_out() -> None:
    async def fine() -> None:
        await asyncio.sleep(0)

    async def fails() -> None:
        raise ValueError("seen")

    asyncio.run(attended({}, messages(), fine()))
    with pytest.raises(ValueError, match="seen"):
        asyncio.run(attended({}, messages(), fails()))


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    assert retry_headers(QueueFull("full", retry_after=0.2)) == ((b"retry-after", b"1"),)
    assert retry_headers(QueueFull("full", retry_after=2.1)) == ((b"retry-after", b"3"),)
    assert retry_headers(QueueFull("full")) == ()


def test_a_client_who_takes_nothing_is_given_up() -> None:
    async def stuck(message: Any) -> None:
        await asyncio.Event().wait()

    taken: list[Any] = []

    async def takes(message: Any) -> None:
        taken.append(message)

    async def run() -> None:
        with pytest.raises(ClientStalled):
            await impatient({}, stuck, 0.0)({"type": "http.response.body"})
        await impatient({}, takes)({"type": "http.response.body"})

    asyncio.run(run())
    assert taken == [{"type": "http.response.body"}]


class Edgy:
    """A server that watches its clients by itself."""

    cancels = True


EDGY = {"extensions": {EDGE: Edgy()}}


def test_where_the_server_gives_up_on_who_takes_nothing_nobody_else_looks_at_the_clock() -> None:
    async def send(message: Message) -> None:
        await asyncio.sleep(0)

    assert impatient(EDGY, send, 0.0) is send


async def unasked() -> Message:
    raise AssertionError("nobody need ask")


def test_where_the_server_cancels_nobody_else_watches() -> None:
    done: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        done.append(asyncio.current_task())

    async def main() -> None:
        await attended(EDGY, unasked, work())
        assert done == [asyncio.current_task()]

    asyncio.run(main())
