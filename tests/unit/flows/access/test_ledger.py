"""What is charged to whom, what is left of a quota, and that nothing is lost or counted twice."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.access import LOCAL, STRANGER, Allowance, Caller, Unwritable, Use, Wish
from localmodels.core.chat import Usage
from localmodels.core.errors import EngineError, StoreFailed, Unauthenticated
from localmodels.flows.access.housekeeping import Rounds
from localmodels.flows.access.keys import Issuer, Keyring, make_key
from localmodels.flows.access.ledger import Ledger, begins, ends
from localmodels.flows.visit import Visit
from localmodels.state.memory import MemoryKeys, MemoryUsage

START = int(datetime(2026, 2, 28, 23, 30, tzinfo=UTC).timestamp())
TODAY = START // 3600


class Clock:
    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> int:
        return self.seconds * 10**9


class Fragile(MemoryUsage):
    """Cannot be written while it is broken."""

    broken = False

    async def add(self, uses: Sequence[Use]) -> None:
        if self.broken:
            raise StoreFailed("the disk is full")
        await super().add(uses)


class Strict(Fragile):
    """Holds no number of more than 64 bits, as databases do, and says so of all that it is given at once."""

    async def add(self, uses: Sequence[Use]) -> None:
        if any(use.tokens >= 2**63 for use in uses):
            raise Unwritable("a number is too large")
        await super().add(uses)


def visit_of(caller: Caller, prompt: int = 10, answer: int = 5) -> Visit:
    visit = Visit("r", caller)
    visit.operation, visit.model, visit.usage = "chat", "tiny:latest", Usage(prompt, answer, 4)
    visit.server = "local"
    return visit


def quota(period: str = "day") -> Caller:
    return Caller("key_1", "bob", allowance=Allowance(token_quota=100, quota_period=period))  # type: ignore[arg-type]


def test_a_request_is_charged_once_by_model_and_hour() -> None:
    async def story() -> None:
        clock, store = Clock(), MemoryUsage()
        ledger = Ledger(store, Keyring(), clock)
        ledger.note(visit_of(LOCAL))
        failed = visit_of(LOCAL)
        failed.error = EngineError("broken")
        ledger.note(failed)
        clock.seconds += 3600
        ledger.note(visit_of(LOCAL))
        await ledger.flush()
        await ledger.flush()
        assert await ledger.of(since=0) == (
            Use("local", "tiny:latest", "local", TODAY + 1, 1, 0, 10, 4, 5, 0),
            Use("local", "tiny:latest", "local", TODAY, 2, 1, 20, 8, 10, 0),
        )

    asyncio.run(story())


def test_an_answer_that_was_left_is_estimated() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryUsage(), Keyring(), Clock())
        visit = visit_of(LOCAL)
        visit.usage, visit.asked, visit.admitted, visit.pieces = None, 20, 1, 3
        ledger.note(visit)
        (use,) = await ledger.of(since=0)
        assert (use.prompt_tokens, use.completion_tokens, use.estimated) == (20, 3, 23)
        assert visit.estimated

    asyncio.run(story())


def test_names_that_only_callers_said_are_one_place_in_the_books() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryUsage(), Keyring(), Clock())
        for number in range(9):
            visit = visit_of(LOCAL)
            visit.model, visit.listed = f"far/{number}", False
            ledger.note(visit)
        (use,) = await ledger.of(since=0)
        assert (use.model, use.requests, use.prompt_tokens) == ("unknown", 9, 90)

    asyncio.run(story())


class Slow(MemoryUsage):
    """Writes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may = asyncio.Event(), asyncio.Event()

    async def add(self, uses: Sequence[Use]) -> None:
        self.begun.set()
        await self.may.wait()
        await super().add(uses)


def test_who_leaves_while_it_is_written_loses_nothing_and_nothing_counts_twice() -> None:
    async def story() -> None:
        store = Slow()
        ledger = Ledger(store, Keyring(), Clock())
        ledger.note(visit_of(quota()))
        leaver = asyncio.ensure_future(ledger.of(since=0))
        await store.begun.wait()
        leaver.cancel()
        await asyncio.wait([leaver])
        assert leaver.cancelled()
        assert ledger.left(quota()) == 85
        store.may.set()
        (use,) = await ledger.of(since=0)
        assert use.requests == 1
        assert ledger.left(quota()) == 85

    asyncio.run(story())


def test_a_write_that_is_broken_off_is_done_again() -> None:
    async def story() -> None:
        store = Slow()
        ledger = Ledger(store, Keyring(), Clock())
        ledger.note(visit_of(LOCAL))
        leaver = asyncio.ensure_future(ledger.flush())
        await store.begun.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task(), leaver}:
            task.cancel()  # as at the end of a loop
        await asyncio.wait([leaver])
        store.may.set()
        (use,) = await ledger.of(since=0)
        assert use.requests == 1

    asyncio.run(story())


def test_what_asked_no_model_is_not_charged() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryUsage(), Keyring(), Clock())
        ledger.note(visit_of(STRANGER))
        for field in ("operation", "model"):
            visit = visit_of(LOCAL)
            setattr(visit, field, "")
            ledger.note(visit)
        assert await ledger.of(since=0) == ()

    asyncio.run(story())


def test_a_quota_counts_what_is_written_and_what_is_not() -> None:
    async def story() -> None:
        clock, store, ring = Clock(), MemoryUsage(), Keyring()
        made, _ = make_key(Wish("bob", allowance=Allowance(token_quota=100, quota_period="day")), 1)
        ring.take(1, [made])
        caller = Caller(made.id, "bob", allowance=made.allowance)
        await store.add(
            [Use(made.id, "m", "local", TODAY - 1, prompt_tokens=20), Use(made.id, "m", "local", 7, 1, 0, 9)]
        )
        ledger = Ledger(store, ring, clock)
        await ledger.recount()
        assert ledger.left(caller) == 80
        ledger.note(visit_of(caller))
        assert ledger.left(caller) == 65
        await ledger.flush()
        await ledger.recount()
        assert ledger.left(caller) == 65
        assert ledger.renews(caller) == 1800.0
        clock.seconds += 1800
        assert ledger.left(caller) == 100
        assert ledger.left(LOCAL) is None

    asyncio.run(story())


def test_what_cannot_be_written_is_kept_for_the_next_time() -> None:
    async def story() -> None:
        store = Fragile()
        ledger = Ledger(store, Keyring(), Clock())
        caller = quota()
        ledger.note(visit_of(caller))
        store.broken = True
        with pytest.raises(StoreFailed):
            await ledger.flush()
        ledger.note(visit_of(caller))
        assert ledger.left(caller) == 70
        store.broken = False
        assert [(use.requests, use.tokens) for use in await ledger.of(since=0)] == [(2, 30)]
        assert ledger.left(caller) == 70

    asyncio.run(story())


def test_a_row_that_no_database_takes_is_lost_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        store = Strict()
        ledger = Ledger(store, Keyring(), Clock())
        ledger.note(visit_of(LOCAL))
        ledger.note(visit_of(quota(), prompt=10**19))
        (use,) = await ledger.of(since=0)
        assert (use.key, use.tokens, ledger.lost) == ("local", 15, 1)
        ledger.note(visit_of(LOCAL))
        (use,) = await ledger.of(since=0)
        assert (use.requests, ledger.lost) == (2, 1)

    asyncio.run(story())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "what the key key_1 used of tiny:latest on local is lost: a number is too large"
    ]


def test_what_was_written_of_a_batch_is_not_written_again() -> None:
    class Breaking(Strict):
        """Breaks after the first row alone."""

        async def add(self, uses: Sequence[Use]) -> None:
            await super().add(uses)
            self.broken = len(uses) == 1

    async def story() -> None:
        store = Breaking()
        ledger = Ledger(store, Keyring(), Clock())
        for key in ("a", "b", "c"):
            ledger.note(visit_of(Caller(key, key), prompt=10**19 if key == "b" else 10))
        with pytest.raises(StoreFailed):
            await ledger.flush()
        store.broken = False
        assert {use.key: use.requests for use in await ledger.of(since=0)} == {"a": 1, "c": 1}
        assert ledger.lost == 1

    asyncio.run(story())


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))
def test_periods_are_those_of_the_calendar(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    hour = int(moment.timestamp()) // 3600
    assert begins("ever", hour) == 0
    assert ends("ever", hour) is None
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    assert begins("day", hour) * 3600 == day.timestamp()
    assert begins("month", hour) * 3600 == day.replace(day=1).timestamp()
    year, month = divmod(moment.month, 12)
    after = datetime(moment.year + year, month + 1, 1, tzinfo=UTC)
    assert (ends("month", hour) or 0) * 3600 == after.timestamp()
    assert ends("day", hour) == begins("day", hour) + 24


class Steps:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._go: asyncio.Queue[None] = asyncio.Queue()
        self._asleep: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.put_nowait(None)
        await self._go.get()

    async def round(self) -> None:
        await self._asleep.get()
        self._go.put_nowait(None)


def test_rounds_look_for_keys_and_write_what_was_used(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        kept, usage, ring, steps = MemoryKeys(), Fragile(), Keyring(), Steps()
        ledger = Ledger(usage, ring, Clock())
        made, text = make_key(Wish("bob"), 1)
        async with Rounds(Issuer(kept, ring), ledger, sleep=steps):
            await kept.add(made)
            await steps.round()
            await steps.round()
            assert ring.caller(text.reveal())
            ledger.note(visit_of(LOCAL))
            usage.broken = True
            for _ in range(7):
                await steps.round()
            assert await usage.of(since=0) == ()
            usage.broken = False
        assert [use.requests for use in await usage.of(since=0)] == [1]
        assert set(steps.slept) == {0.5}

    asyncio.run(story())
    assert [record.getMessage() for record in caplog.records] == [
        "keys and usage cannot be written, and it is tried again: the disk is full"
    ]


def test_no_error_of_one_round_ends_the_rounds(caplog: pytest.LogCaptureFixture) -> None:
    class Surprising(MemoryUsage):
        """Raises what nobody has thought of."""

        async def add(self, uses: Sequence[Use]) -> None:
            raise OverflowError("secret row")

    async def story() -> None:
        kept, ring, steps = MemoryKeys(), Keyring(), Steps()
        ledger = Ledger(Surprising(), ring, Clock())
        made, text = make_key(Wish("bob"), 1)
        await kept.add(made)
        rounds = Rounds(Issuer(kept, ring), ledger, sleep=steps)
        async with rounds:
            ledger.note(visit_of(LOCAL))
            for _ in range(9):
                await steps.round()
            assert ring.caller(text.reveal())
            assert [(one.name, one.labels, one.value) for one in rounds.readings()] == [
                ("localmodels_bookkeeping_failing", (("work", "read"),), 0.0),
                ("localmodels_bookkeeping_failing", (("work", "written"),), 1.0),
                ("localmodels_usage_lost", (), 0),
            ]
            await kept.revoke(made.id, 2)
            for _ in range(2):
                await steps.round()
            with pytest.raises(Unauthenticated, match="revoked"):
                ring.caller(text.reveal())

    asyncio.run(story())
    assert [record.getMessage() for record in caplog.records] == [
        "keys and usage cannot be written, and it is tried again: OverflowError"
    ]
