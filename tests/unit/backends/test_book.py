"""The guest book: who is here, who was, and something to wait for."""

import asyncio

from tests.awaited import awaited

from localmodels.backends.fake.book import Book
from localmodels.core.chat import GenerateRequest

ASKED = GenerateRequest("m")


@awaited
async def test_a_visit_is_open_until_it_is_left_even_by_an_error() -> None:
    book = Book()
    try:
        with book.visit(ASKED) as visit:
            assert (book.open, visit.closed.is_set()) == (1, False)
            raise KeyError
    except KeyError:
        assert (book.open, visit.closed.is_set()) == (0, True)
    assert book.visits == [visit]


@awaited
async def test_the_most_that_were_here_at_once() -> None:
    book = Book()
    with book.visit(ASKED), book.visit(ASKED):
        pass
    with book.visit(ASKED):
        assert (book.open, book.most) == (1, 2)


@awaited
async def test_waiting_for_a_visit_and_for_the_last_to_leave() -> None:
    book = Book()
    second = asyncio.ensure_future(book.nth(1))
    with book.visit(ASKED):
        await asyncio.sleep(0)
        assert not second.done()
        with book.visit(ASKED) as visit:
            assert await second is visit
        empty = asyncio.ensure_future(book.empty())
        await asyncio.sleep(0)
        assert not empty.done()
    await empty


@awaited
async def test_events_that_were_handed_over_are_counted() -> None:
    with Book().visit(ASKED) as visit:
        assert (visit.sent, visit.begun.is_set()) == (0, False)
        visit.count()
        assert (visit.sent, visit.begun.is_set()) == (1, True)
