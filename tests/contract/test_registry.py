"""One suite for registries that tell the truth: ours with each kind of login, and Debian's with and without one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.awaited import awaited
from tests.registry.clients import Client, at, client
from tests.registry.docker import ABSENT, PROGRAM, docker_registry
from tests.registry.models import Model, blob_of, model
from tests.registry.server import PASSWORD, USER, Login, Registry

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import LocalModelsError, ModelNotFound, NotFound, Unauthenticated
from localmodels.registry import credentials
from localmodels.registry.addresses import Place
from localmodels.registry.distribution import OCI_MANIFEST, head_of
from localmodels.registry.memory import MemoryShelf
from localmodels.registry.progress import BlobProgress
from localmodels.registry.pull import Pulled
from localmodels.registry.verdicts import Head

OURS = credentials.Login.parse(USER, PASSWORD)
MODEL = model(300_000, 1, 0, 70_000)

Opens = Callable[[], AbstractAsyncContextManager[str]]


class World(Struct, frozen=True):
    """A registry to talk to; ``login`` is whether it wants one."""

    opens: Opens
    login: bool


def ours(login: Login) -> World:
    @asynccontextmanager
    async def opens() -> AsyncIterator[str]:
        async with Registry(login=login) as registry:
            yield registry.url

    return World(opens, login != "none")


@pytest.fixture(scope="module")
def dockers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if PROGRAM is None:
        pytest.skip(ABSENT)
    with (
        docker_registry(tmp_path_factory.mktemp("registry"), login=False) as without,
        docker_registry(tmp_path_factory.mktemp("registry"), login=True) as with_login,
    ):
        yield {"docker": without, "docker-login": with_login}


WITHOUT, WITH = ["fake", "docker"], ["fake-basic", "fake-bearer", "docker-login"]


@pytest.fixture(params=WITHOUT + WITH)
def world(request: pytest.FixtureRequest) -> World:
    return opened_world(request)


@pytest.fixture(params=WITH)
def guarded(request: pytest.FixtureRequest) -> World:
    return opened_world(request)


def opened_world(request: pytest.FixtureRequest) -> World:
    """The registry of a name; real ones only where they are installed."""
    kind, _, login = request.param.partition("-")
    if kind == "fake":
        return ours(login or "none")
    url = request.getfixturevalue("dockers")[request.param]

    @asynccontextmanager
    async def opens() -> AsyncIterator[str]:
        yield url

    return World(opens, bool(login))


def named(test: str) -> ModelName:
    """A name of the test's own, since a real registry outlives it."""
    return ModelName.parse(f"tests/{hashlib.sha256(test.encode()).hexdigest()[:12]}:latest")


class Met(Struct):
    """A client that may do everything, and the place that it speaks to."""

    client: Client
    place: Place


@asynccontextmanager
async def meeting(world: World, *contents: bytes) -> AsyncIterator[Met]:
    async with (
        world.opens() as url,
        client(url, logins={url: OURS} if world.login else None, shelf=MemoryShelf(*contents)) as opened,
    ):
        yield Met(opened, at(url))


async def pushed(met: Met, name: ModelName, model: Model, mount: ModelName | None = None) -> list[BlobProgress]:
    steps = met.client.pusher.push(name, met.place, model.manifest, model.blobs, mount=mount)
    return [step async for step in steps]


async def pulled(met: Met, name: ModelName) -> list[BlobProgress | Pulled]:
    return [step async for step in met.client.puller.pull(name, (met.place,))]


@awaited
async def test_what_is_pushed_is_pulled(world: World) -> None:
    name = named("round trip")
    async with meeting(world, *MODEL.contents) as met:
        sent = await pushed(met, name, MODEL)
        met.client.shelf.blobs.clear()
        steps = await pulled(met, name)
    assert {blob_of(content).digest: content for content in MODEL.contents} == met.client.shelf.blobs
    last = steps[-1]
    assert isinstance(last, Pulled)
    assert last.manifest.data == MODEL.manifest
    assert last.manifest.digest.hex == hashlib.sha256(MODEL.manifest).hexdigest()
    for blob in MODEL.blobs:
        for side in (sent, steps):
            of_blob = [step for step in side if isinstance(step, BlobProgress) and step.blob == blob]
            assert (of_blob[-1].state, of_blob[-1].completed, of_blob[-1].troubles) == ("done", blob.size, 0), of_blob


@awaited
async def test_a_manifest_is_found_by_its_digest_too(world: World) -> None:
    name = named("by digest")
    async with meeting(world, *MODEL.contents) as met:
        await pushed(met, name, MODEL)
        digest = Digest(hashlib.sha256(MODEL.manifest).hexdigest())
        found = await met.client.registry.manifest(met.place, name, digest)
    assert (found.data, found.digest) == (MODEL.manifest, digest)


@awaited
async def test_an_oci_manifest_comes_back_as_one(world: World) -> None:
    name = named("oci")
    wire = MODEL.manifest.replace(b"application/vnd.docker.distribution.manifest.v2+json", OCI_MANIFEST.encode())
    oci = replace(MODEL, manifest=wire)
    async with meeting(world, *MODEL.contents) as met:
        steps = met.client.pusher.push(name, met.place, oci.manifest, oci.blobs, media_type=OCI_MANIFEST)
        assert [step async for step in steps]
        found = await met.client.registry.manifest(met.place, name)
    assert (found.data, found.media_type) == (oci.manifest, OCI_MANIFEST)


@awaited
async def test_what_is_not_there_is_not_found(world: World) -> None:
    async with meeting(world) as met:
        with pytest.raises(ModelNotFound, match="nobody"):
            await pulled(met, ModelName.parse("tests/nobody"))
        assert not await met.client.registry.has_blob(met.place, named("nothing"), blob_of(b"never seen"))


@awaited
async def test_a_part_of_a_blob_is_that_part(world: World) -> None:
    name = named("part")
    async with meeting(world, *MODEL.contents) as met:
        await pushed(met, name, MODEL)
        content = MODEL.contents[1]
        blob = blob_of(content)
        async with met.client.registry.blob(met.place, name, blob, 1000, 5000) as answer:
            head = head_of(answer)
            data = await answer.whole(10_000)
    assert head == Head(206, (1000, 5000, blob.size), 4000)
    assert data == content[1000:5000]


@awaited
async def test_a_second_push_sends_nothing(world: World) -> None:
    name = named("twice")
    async with meeting(world, *MODEL.contents) as met:
        await pushed(met, name, MODEL)
        met.client.shelf.blobs.clear()  # what is read from now on is missed
        steps = await pushed(met, name, MODEL)
    assert {step.state for step in steps} <= {"waiting", "done"}


@awaited
async def test_blobs_are_mounted_from_another_repository(world: World) -> None:
    first, second = named("mounted from"), named("mounted to")
    async with meeting(world, *MODEL.contents) as met:
        await pushed(met, first, MODEL)
        steps = await pushed(met, second, MODEL, mount=first)
        assert {step.state for step in steps} <= {"waiting", "done"}
        met.client.shelf.blobs.clear()
        assert isinstance((await pulled(met, second))[-1], Pulled)


@awaited
async def test_an_upload_goes_on_where_the_registry_says(world: World) -> None:
    name = named("goes on")
    content = MODEL.contents[1]
    blob = blob_of(content)
    async with meeting(world) as met:
        registry, place = met.client.registry, met.place
        upload = await registry.begin_upload(place, name, blob)
        assert upload is not None

        def body(start: int, stop: int) -> Callable[[], AsyncIterator[bytes]]:
            async def pieces() -> AsyncIterator[bytes]:
                yield content[start:stop]

            return pieces

        sent = await registry.send_chunk(place, name, upload, body(0, 100_000), 100_000)
        known = await registry.upload_status(place, name, sent)
        assert (sent.offset, known.offset) == (100_000, 100_000)
        rest = await registry.send_chunk(place, name, known, body(100_000, blob.size), blob.size - 100_000)
        await registry.end_upload(place, name, rest, blob)
        assert await registry.has_blob(place, name, blob)


@awaited
async def test_a_manifest_without_its_blobs_is_not_taken(world: World) -> None:
    name = named("hollow")
    async with meeting(world, *MODEL.contents) as met:
        met.client.shelf.blobs.clear()
        with pytest.raises(LocalModelsError) as caught:
            await pushed(met, name, MODEL)
        assert isinstance(caught.value, NotFound)
        with pytest.raises(ModelNotFound):
            await pulled(met, name)


@awaited
async def test_many_pulls_at_once_write_each_byte_once(world: World) -> None:
    name = named("many")
    async with meeting(world, *MODEL.contents) as met:
        await pushed(met, name, MODEL)
        met.client.shelf.blobs.clear()
        ends = await asyncio.gather(*(pulled(met, name) for _ in range(20)))
    assert all(isinstance(steps[-1], Pulled) for steps in ends)
    assert met.client.shelf.written == {blob.digest: blob.size for blob in MODEL.blobs if blob.size}


@awaited
async def test_a_wrong_login_is_named(guarded: World) -> None:
    async with guarded.opens() as url:
        wrong = credentials.Login.parse(USER, "swordfish")
        async with client(url, logins={url: wrong}) as opened:
            with pytest.raises(Unauthenticated, match="login") as caught:
                await opened.registry.check(at(url), wrong)
            with pytest.raises(Unauthenticated):
                await opened.puller.manifest(named("wrong login"), (at(url),))
        async with client(url) as opened:
            with pytest.raises(Unauthenticated, match="log in"):
                await opened.puller.manifest(named("no login"), (at(url),))
            await opened.registry.check(at(url), OURS)
    assert "swordfish" not in str(caught.value)


@awaited
async def test_a_pull_that_is_left_goes_on_later(world: World) -> None:
    name = named("left")
    big = model(2_000_000, seed=3)
    async with meeting(world, *big.contents) as met:
        await pushed(met, name, big)
        met.client.shelf.blobs.clear()
        async with aclosing(met.client.puller.pull(name, (met.place,))) as steps:
            async for step in steps:
                if isinstance(step, BlobProgress) and 0 < step.completed < step.blob.size:
                    break
        assert isinstance((await pulled(met, name))[-1], Pulled)
    assert met.client.shelf.written == {blob.digest: blob.size for blob in big.blobs}
