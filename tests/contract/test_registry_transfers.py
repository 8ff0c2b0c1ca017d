"""Pulls as a whole: many at once, cut again and again, left and taken up, over mirrors (figures F5 and F17)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import aclosing

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.registry import lies
from tests.registry.clients import PACE, UNHURRIED, Client, at, client
from tests.registry.models import TINY, blob_of, model, stock
from tests.registry.server import PASSWORD, USER, Registry, Rule
from tests.registry.wire import Asked, Reply

from localmodels.core.catalog import Blob, ModelName
from localmodels.core.errors import Forbidden, Garbled, ModelNotFound, NotFound, Unauthenticated, Unreachable
from localmodels.registry.addresses import Place
from localmodels.registry.credentials import Login
from localmodels.registry.memory import MemoryShelf, MemorySink
from localmodels.registry.progress import BlobProgress
from localmodels.registry.pull import Pulled, mirror

LOGIN = Login.parse(USER, PASSWORD)
# What is reset may lose all that was on its way, as often as chance wants; giving up is not what is looked at.
DOGGED = replace(UNHURRIED, tries=100)
CLOSED = "http://127.0.0.1:1"  # nobody listens there


async def pulled(opened: Client, *places: Place, name: ModelName = TINY) -> list[BlobProgress | Pulled]:
    return [step async for step in opened.puller.pull(name, places)]


def fetched(registry: Registry) -> Counter[str]:
    """How often each range of each blob was asked for."""
    return Counter(
        f"{visit.asked.path} {visit.asked.headers['range']}" for visit in registry.visits if visit.kind == "blob"
    )


class Gate:
    """Holds the answers to blobs until it opens."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()

    def rule(self) -> Rule:
        def hold(_asked: Asked, reply: Reply) -> Reply:
            self.reached.set()
            return replace(reply, hold=self.opened)

        return Rule("blob", hold)


@pytest.mark.parametrize("many", [10, 100])
@awaited
async def test_each_byte_is_fetched_once_for_all(many: int) -> None:
    big = model(400_000, 5, 90_000)
    gate = Gate()
    async with Registry(gate.rule()) as registry, client(registry.url) as opened:
        stock(registry, big)
        everyone = [asyncio.create_task(pulled(opened, at(registry.url))) for _ in range(many)]
        await gate.reached.wait()
        everyone[0].cancel()
        await asyncio.wait(everyone[:1])
        gate.opened.set()
        ends = await asyncio.gather(*everyone[1:])
    assert everyone[0].cancelled()
    assert all(isinstance(steps[-1], Pulled) for steps in ends)
    assert set(opened.shelf.blobs.values()) == set(big.contents)
    assert set(fetched(registry).values()) == {1}


@awaited
async def test_the_last_one_that_leaves_stops_it() -> None:
    gate = Gate()
    async with Registry(gate.rule()) as registry, client(registry.url) as opened:
        stock(registry, model(400_000))
        everyone = [asyncio.create_task(pulled(opened, at(registry.url))) for _ in range(5)]
        await gate.reached.wait()
        for one in everyone:
            one.cancel()
        await asyncio.wait(everyone)
        await registry.idle()  # every connection was closed from over here
        assert all(sink.closed for sink in opened.shelf.partial.values())
        asked = registry.count("blob")
        gate.opened.set()
        registry.rules.clear()
        assert isinstance((await pulled(opened, at(registry.url)))[-1], Pulled)
        assert registry.count("blob") > asked


@awaited
async def test_one_who_comes_while_the_last_one_leaves_begins_anew() -> None:
    gate = Gate()
    async with Registry(gate.rule()) as registry, client(registry.url) as opened:
        stock(registry, model(400_000))
        first = asyncio.create_task(pulled(opened, at(registry.url)))
        await gate.reached.wait()
        first.cancel()
        second = asyncio.create_task(pulled(opened, at(registry.url)))
        gate.opened.set()
        assert isinstance((await second)[-1], Pulled)


@awaited
async def test_five_hundred_cuts_cost_nothing_that_had_arrived() -> None:
    """Cut at random bytes until it is whole: no byte comes twice, and what is asked again is what had not come."""
    size = 8_000_000  # more than 500 attempts of 10 KB bring, so that no end is cut for ever
    big = model(size, seed=9)
    chance = random.Random(11)

    def cut(asked: Asked, reply: Reply) -> Reply:
        return lies.cut(chance.randrange(min(20_000, len(reply.body))), chance.choice(("fin", "rst")))(asked, reply)

    async with (
        Registry(Rule("blob", cut, times=500)) as registry,
        client(registry.url, shelf=MemoryShelf(big.contents[0]), pace=DOGGED) as opened,
    ):
        stock(registry, big)
        steps = await pulled(opened, at(registry.url))
    assert isinstance(steps[-1], Pulled)
    assert registry.rules[0].times == 0
    [last] = [
        step for step in steps if isinstance(step, BlobProgress) and step.blob.size == size and step.state == "done"
    ]
    # One that is reset before its head is read is asked again by the HTTP client itself.
    assert 450 <= last.troubles <= 500
    starts = [visit.asked.range for visit in registry.visits if visit.kind == "blob"]
    # A reset may take back what was on its way; nothing that was written is asked for again.
    assert len(starts) <= 500 + 1 + -(-size // DOGGED.part) + 10
    assert opened.shelf.written[blob_of(big.contents[1]).digest] == size


@awaited
async def test_a_pull_is_taken_up_after_a_restart() -> None:
    big = model(1_000_000)
    shelf = MemoryShelf()
    gate = Gate()
    stopped = Rule(
        "blob", lambda asked, reply: replace(reply, hold=gate.opened) if asked.range != (0, 65536) else reply
    )
    async with Registry(stopped) as registry:
        stock(registry, big)
        async with (
            client(registry.url, shelf=shelf) as opened,
            aclosing(opened.puller.pull(TINY, (at(registry.url),))) as steps,
        ):
            async for step in steps:
                if isinstance(step, BlobProgress) and step.completed == 65536:
                    break
            await steps.aclose()
        registry.rules.clear()
        registry.visits.clear()
        async with client(registry.url, shelf=shelf) as opened:
            assert isinstance((await pulled(opened, at(registry.url)))[-1], Pulled)
    assert (0, 65536) not in [visit.asked.range for visit in registry.visits if visit.kind == "blob"]
    assert shelf.written[blob_of(big.contents[1]).digest] == 1_000_000


@awaited
async def test_a_crash_costs_no_more_than_the_parts_on_their_way() -> None:
    """What was kept is never short of what had arrived by more than a part for each request at the time."""
    big = model(3_000_000)
    shelf = MemoryShelf(big.contents[0])
    async with Registry() as registry, client(registry.url, shelf=shelf) as opened:
        stock(registry, big)
        async for step in opened.puller.pull(TINY, (at(registry.url),)):
            for sink in shelf.partial.values():
                kept = sum(stop - start for start, stop in sink.have)
                arrived = step.completed if isinstance(step, BlobProgress) else 0
                assert kept >= arrived - UNHURRIED.at_once * UNHURRIED.part
    assert set(shelf.blobs.values()) == set(big.contents)


@awaited
async def test_what_was_spoilt_between_two_runs_is_fetched_anew() -> None:
    big = model(200_000)
    content = big.contents[1]
    shelf = MemoryShelf(big.contents[0])
    sink = await shelf.open(blob_of(content))
    assert sink is not None
    await sink.write(0, b"rot" * 30_000)
    await sink.keep(0, 90_000)
    async with Registry() as registry, client(registry.url, shelf=shelf) as opened:
        stock(registry, big)
        steps = await pulled(opened, at(registry.url))
    assert isinstance(steps[-1], Pulled)
    assert any("what arrived is not" in step.trouble for step in steps if isinstance(step, BlobProgress))
    assert set(shelf.blobs.values()) == set(big.contents)


@awaited
async def test_mirrors_are_tried_in_their_order() -> None:
    big = model(300_000)
    async with Registry() as empty, Registry() as registry:
        stock(registry, big)
        async with client(CLOSED, empty.url, registry.url, pace=PACE) as opened:
            places = [at(CLOSED), at(empty.url), at(registry.url)]
            manifest, found = await opened.puller.manifest(TINY, places)
            steps = await pulled(opened, *places)
    assert (manifest.data, found) == (big.manifest, 2)
    assert isinstance(steps[-1], Pulled)
    assert empty.count("blob") == 0  # the one that had the manifest is asked first


@awaited
async def test_a_mirror_that_lacks_a_blob_is_helped_by_the_next() -> None:
    big = model(300_000, 1000)
    async with Registry(Rule("blob", lies.cut(40_000), times=1)) as first, Registry() as second:
        stock(first, big)
        stock(second, big)
        first.rules.append(Rule("blob", lies.status(404)))
        async with client(first.url, second.url, pace=PACE) as opened:
            steps = await pulled(opened, at(first.url), at(second.url))
    assert isinstance(steps[-1], Pulled)
    assert set(opened.shelf.blobs.values()) == set(big.contents)


@awaited
async def test_of_several_errors_the_first_that_says_something_is_told() -> None:
    async with Registry() as empty, client(CLOSED, empty.url, pace=PACE) as opened:
        with pytest.raises(Unreachable):
            await pulled(opened, at(empty.url), at(CLOSED))
        with pytest.raises(ModelNotFound):
            await pulled(opened, at(empty.url), at(empty.url))


@awaited
async def test_another_registry_that_has_the_blob_is_asked_when_the_first_has_not() -> None:
    """Two pulls of one content from two registries: the second does not share the first one's failure."""
    content = random.Random(4).randbytes(100_000)
    blob = blob_of(content)
    gate = Gate()
    hold = gate.rule()
    gone = Rule(
        "blob", lambda asked, reply: replace(lies.status(404)(asked, reply), hold=hold.change(asked, reply).hold)
    )
    async with Registry(gone) as poor, Registry() as rich, client(poor.url, rich.url, pace=PACE) as opened:
        rich.put(content)

        async def fetch(registry: Registry) -> None:
            ask = mirror(opened.registry, at(registry.url), TINY, blob)
            await opened.downloads.fetch(blob, registry.url, [ask], lambda _: None)

        first = asyncio.create_task(fetch(poor))
        await gate.reached.wait()
        second = asyncio.create_task(fetch(rich))
        await asyncio.sleep(0)
        gate.opened.set()
        await second
        with pytest.raises(NotFound):
            await first
    assert opened.shelf.blobs[blob.digest] == content


@awaited
async def test_a_manifest_that_lies_about_a_size_does_not_disturb_one_that_does_not() -> None:
    content = random.Random(4).randbytes(100_000)
    blob = blob_of(content)
    gate = Gate()
    async with Registry(gate.rule()) as registry, client(registry.url, pace=PACE) as opened:
        registry.put(content)

        async def fetch(blob: Blob) -> None:
            ask = mirror(opened.registry, at(registry.url), TINY, blob)
            await opened.downloads.fetch(blob, registry.url, [ask], lambda _: None)

        liar = asyncio.create_task(fetch(Blob(blob.digest, 90_000)))
        await gate.reached.wait()
        honest = asyncio.create_task(fetch(blob))
        await asyncio.sleep(0)
        gate.opened.set()
        with pytest.raises(Garbled):
            await liar
        opened.shelf.partial.clear()
        await honest
    assert opened.shelf.blobs[blob.digest] == content


class FullSink(MemorySink):
    """A disk with room for one write."""

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        if self.written:
            raise OSError(28, "No space left on device")
        await super().write(offset, data)


class FullShelf(MemoryShelf):
    async def open(self, blob: Blob) -> MemorySink | None:
        sink = self.partial[blob.digest] = FullSink(blob, self)
        return sink


class SlowSink(MemorySink):
    """A disk that takes its time, and says in which order things ended."""

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        shelf = self.shelf
        assert isinstance(shelf, SlowShelf)
        shelf.begun.set()
        await shelf.may_write.wait()
        await super().write(offset, data)
        shelf.ended.append("write")

    async def keep(self, start: int, stop: int) -> None:
        await super().keep(start, stop)
        self.shelf.ended.append("keep")  # type: ignore[attr-defined]

    async def close(self) -> None:
        await super().close()
        self.shelf.ended.append("close")  # type: ignore[attr-defined]
        self.shelf.closed.set()  # type: ignore[attr-defined]


class SlowShelf(MemoryShelf):
    def __init__(self, *contents: bytes) -> None:
        super().__init__(*contents)
        self.begun, self.may_write, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended: list[str] = []

    async def open(self, blob: Blob) -> MemorySink | None:
        if blob.digest in self.blobs:
            return None
        sink = self.partial[blob.digest] = SlowSink(blob, self)
        return sink


@awaited
async def test_a_write_that_has_begun_is_waited_for_and_kept() -> None:
    """Also when nobody wants it any more: nothing writes to a sink that is closed, and nothing written is lost."""
    small = model(100_000)
    shelf = SlowShelf(small.contents[0])
    never = Rule("blob", lambda asked, reply: lies.silent(asked, reply) if asked.range != (0, 65536) else reply)
    async with Registry(never) as registry, client(registry.url, shelf=shelf) as opened:
        stock(registry, small)
        task = asyncio.create_task(pulled(opened, at(registry.url)))
        await shelf.begun.wait()
        task.cancel()
        for _ in range(50):  # turns of the loop: more than it takes for the word to get to the sink
            await asyncio.sleep(0)
        assert not shelf.ended
        shelf.may_write.set()
        await asyncio.wait([task])
        await shelf.closed.wait()
    assert task.cancelled()
    assert shelf.ended == ["write", "keep", "close"]
    assert shelf.written[blob_of(small.contents[1]).digest] > 0


@awaited
async def test_a_full_disk_is_told_as_it_is_and_at_once() -> None:
    async with Registry() as registry, client(registry.url, shelf=FullShelf()) as opened:
        stock(registry, model(1_000_000))
        with pytest.raises(OSError, match="No space left"):
            await pulled(opened, at(registry.url))
        await registry.idle()


@awaited
async def test_a_manifest_is_not_given_when_a_blob_fails() -> None:
    seen: list[BlobProgress | Pulled] = []

    async def watch(opened: Client, place: Place) -> None:
        async for step in opened.puller.pull(TINY, (place,)):
            seen.append(step)  # noqa: PERF401 - what came before the error counts

    async with Registry(Rule("blob", lies.status(403))) as registry, client(registry.url) as opened:
        stock(registry, model(1000))
        with pytest.raises(Forbidden, match="log in"):
            await watch(opened, at(registry.url))
    assert seen
    assert not any(isinstance(step, Pulled) for step in seen)


@awaited
async def test_a_token_is_fetched_once_for_all_and_again_when_it_ends() -> None:
    big = model(500_000)
    async with Registry(login="bearer") as registry:
        stock(registry, big)
        async with client(registry.url, logins={registry.url: LOGIN}) as opened:
            await asyncio.gather(*(pulled(opened, at(registry.url)) for _ in range(10)))
            assert registry.count("token") == 1
            registry.tokens.clear()  # over there they have ended
            opened.shelf.blobs.clear()
            await asyncio.gather(*(pulled(opened, at(registry.url)) for _ in range(10)))
            assert registry.count("token") == 2
            registry.tokens.clear()
            opened.tokens.forget(at(registry.url).origin)
            await pulled(opened, at(registry.url))
            assert registry.count("token") == 3


@awaited
async def test_one_who_stops_waiting_for_a_token_does_not_stop_it_for_the_others() -> None:
    gate = asyncio.Event()
    asked = asyncio.Event()

    def hold(_asked: Asked, reply: Reply) -> Reply:
        asked.set()
        return replace(reply, hold=gate)

    async with Registry(Rule("token", hold), login="bearer") as registry:
        stock(registry, model(10))
        async with client(registry.url, logins={registry.url: LOGIN}) as opened:
            both = [asyncio.create_task(pulled(opened, at(registry.url))) for _ in range(2)]
            await asked.wait()
            both[0].cancel()
            gate.set()
            assert isinstance((await both[1])[-1], Pulled)
    assert registry.count("token") == 1


@awaited
async def test_without_a_login_an_anonymous_token_is_tried() -> None:
    async with Registry(login="bearer") as registry, client(registry.url) as opened:
        with pytest.raises(Unauthenticated, match="log in to it first"):
            await pulled(opened, at(registry.url))
        [visit] = [visit for visit in registry.visits if visit.kind == "token"]
    assert "authorization" not in visit.asked.headers
    assert visit.asked.query == {"service": "tests", "scope": "repository:library/tiny:pull,push"}
