"""Our client of Hugging Face's hub against a hub of ours; and that hub against Hugging Face's own client."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.awaited import awaited
from tests.registry import lies
from tests.registry.clients import PATIENT, UNHURRIED
from tests.registry.hub import STRANGER, TOKEN, Hub, Rule
from tests.registry.models import blob_of
from tests.registry.threads import in_a_thread
from tests.registry.wire import Asked, Reply
from tests.unit.cli.conftest import Shell

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import Forbidden, Garbled, NotFound, Unauthenticated, Unreachable
from localmodels.core.secrets import Secret
from localmodels.registry import hub as ours
from localmodels.registry.addresses import Origin, Place, Registries
from localmodels.registry.credentials import FileCredentials, Login, MemoryCredentials
from localmodels.registry.downloads import Downloads
from localmodels.registry.hub_files import Choice, File, choose
from localmodels.registry.hub_pull import Found, HubPuller
from localmodels.registry.memory import MemoryShelf
from localmodels.registry.outbound import Outbound
from localmodels.registry.progress import BlobProgress

NAME = ModelName.parse("hf.co/me/Tiny-GGUF:Q8_0")
REPO = "me/Tiny-GGUF"
DATA = random.Random(5).randbytes(300_000)
CLOSED = "http://127.0.0.1:1"  # nobody listens there


class Client(Struct, frozen=True):
    """What a pull uses, and the shelf that it fills."""

    hub: ours.Hub
    puller: HubPuller
    shelf: MemoryShelf


@asynccontextmanager
async def client(token: str = "", *, at: str = "", login: tuple[str, str] | None = None) -> AsyncIterator[Client]:
    """A client that says this token to this origin, or has a login there."""
    shelf = MemoryShelf()
    given = {Origin.parse(at): Secret(token)} if token else {}
    logins = {Origin.parse(login[0]): Login.parse("me", login[1])} if login else {}
    async with Outbound(patience=PATIENT) as outbound:
        hub = ours.Hub(outbound, ours.HubTokens(MemoryCredentials(logins), given))
        downloads = Downloads(shelf, pace=UNHURRIED, chance=random.Random(7))
        yield Client(hub, HubPuller(hub, downloads, pace=UNHURRIED, interval=0.0, chance=random.Random(7)), shelf)


def places(hub: Hub, *mirrors: str) -> tuple[Place, ...]:
    """As the composition root makes them: the storage is declared, since here it is on the local network."""
    trusted = [(url.removeprefix("http://"), hub.storage) for url in (hub.url, *mirrors)]
    registries = Registries.configured(hub=hub.url, mirrors=[("hf.co", url) for url in mirrors], trusted=trusted)
    return registries.places(NAME)


async def fetched(one: Client, found: Found, choice: Choice) -> list[BlobProgress]:
    return [step async for step in one.puller.fetch(found, choice.model)]


def pick(found: Found, tag: str = "Q8_0") -> Choice:
    return choose(found.repository.files, tag, REPO)


@awaited
async def test_a_file_is_found_and_fetched_in_parts_from_where_the_hub_leads() -> None:
    async with Hub() as hub, client() as one:
        digest = hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        hub.put(REPO, "README.md", b"# Tiny", lfs=False)
        found = await one.puller.find(NAME, places(hub))
        assert found.repository.commit == hub.commit(REPO)
        assert {(file.path, file.size, bool(file.sha256)) for file in found.repository.files} == {
            ("README.md", 6, False),
            ("Tiny-Q8_0.gguf", len(DATA), True),
        }
        choice = await one.puller.completed(found, pick(found))
        steps = await fetched(one, found, choice)
        assert one.shelf.blobs == {Digest.parse(digest): DATA}
        assert steps[-1] == BlobProgress(blob_of(DATA), "done", len(DATA))
        ranges = Counter(visit.asked.headers["range"] for visit in hub.visits if visit.kind == "storage")
        assert len(ranges) == -(-len(DATA) // UNHURRIED.part)
        assert set(ranges.values()) == {1}
        assert {visit.asked.path.split("/")[4] for visit in hub.visits if visit.kind == "resolve"} == {
            found.repository.commit
        }


@awaited
async def test_a_mirror_that_tells_no_digests_is_asked_for_the_head_of_a_file() -> None:
    async with Hub() as hub, client() as one:
        hub.bare = True
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        hub.put(REPO, "small-Q2_K.gguf", DATA[:1000], lfs=False)
        found = await one.puller.find(NAME, places(hub))
        assert {(file.size, file.sha256) for file in found.repository.files} == {(-1, "")}
        [whole] = (await one.puller.completed(found, pick(found))).model
        assert whole.blob == blob_of(DATA)
        [small] = (await one.puller.completed(found, pick(found, "Q2_K"))).model
        assert (small.size, small.blob, len(small.git_id)) == (1000, None, 40)
        assert await one.puller.small(found, small, 2000) == DATA[:1000]


@pytest.mark.parametrize("lfs", [False, True])
@awaited
async def test_what_is_small_is_compared_with_its_digest_and_bounded(*, lfs: bool) -> None:
    def other(asked: Asked, reply: Reply) -> Reply:
        return replace(reply, body=b"other bytes.")

    async with Hub(Rule("storage" if lfs else "cache", other, times=10)) as hub, client() as one:
        hub.put(REPO, "system", b"Be brief.", lfs=lfs)
        found = await one.puller.find(NAME, places(hub))
        [file] = found.repository.files
        with pytest.raises(Garbled, match="its digest"):
            await one.puller.small(found, file, 1000)
        hub.rules.clear()
        assert await one.puller.small(found, file, 1000) == b"Be brief."
        with pytest.raises(Garbled, match="longer than 5 bytes"):
            await one.puller.small(found, file, 5)


@awaited
async def test_bytes_that_are_not_what_the_listing_says_never_become_a_blob() -> None:
    def rotten(asked: Asked, reply: Reply) -> Reply:
        return replace(reply, body=b"\0" * len(reply.body))

    async with Hub(Rule("storage", rotten)) as hub, client() as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        found = await one.puller.find(NAME, places(hub))
        with pytest.raises(Garbled):
            await fetched(one, found, pick(found))
        assert one.shelf.blobs == {}


@awaited
async def test_a_signature_that_ends_is_made_anew() -> None:
    async with Hub() as hub, client() as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)

        def expire(asked: Asked, reply: Reply) -> Reply:
            hub.epoch += 1  # what was signed before is refused from now on, this request too
            return Reply(403, {}, b"<Error><Code>AccessDenied</Code></Error>")

        hub.rules.append(Rule("storage", expire, times=3))
        found = await one.puller.find(NAME, places(hub))
        steps = await fetched(one, found, pick(found))
        assert list(one.shelf.blobs.values()) == [DATA]
        assert steps[-1].troubles >= 1


@awaited
async def test_cuts_cost_nothing_that_had_arrived() -> None:
    chance = random.Random(3)

    def cut(asked: Asked, reply: Reply) -> Reply:
        return lies.cut(chance.randrange(len(reply.body)), "fin")(asked, reply)

    async with Hub(Rule("storage", cut, times=5)) as hub, client() as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        found = await one.puller.find(NAME, places(hub))
        await fetched(one, found, pick(found))
        assert list(one.shelf.blobs.values()) == [DATA]
        assert one.shelf.written[blob_of(DATA).digest] == len(DATA)


@awaited
async def test_many_who_want_the_same_fetch_it_once() -> None:
    async with Hub() as hub, client() as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        found = await one.puller.find(NAME, places(hub))
        await asyncio.gather(*(fetched(one, found, pick(found)) for _ in range(20)))
        assert hub.count("storage") == -(-len(DATA) // UNHURRIED.part)


@awaited
async def test_mirrors_come_first_and_the_hub_itself_last() -> None:
    async with Hub() as hub, Hub() as mirror, client() as one:
        for server in (hub, mirror):
            server.put(REPO, "Tiny-Q8_0.gguf", DATA)
        both = places(hub, CLOSED, mirror.url)
        both = (both[0], replace(both[1], trusted=frozenset({Origin.parse(mirror.storage)})), both[2])
        found = await one.puller.find(NAME, both)
        assert [place.origin for place in found.places] == [both[1].origin, both[2].origin, both[0].origin]
        mirror.rules.append(Rule("resolve", lambda _asked, _reply: Reply(404, {"X-Error-Code": "EntryNotFound"}, b"")))
        await fetched(one, found, pick(found))
        assert list(one.shelf.blobs.values()) == [DATA]
        assert hub.count("api") == 0
        assert hub.count("storage") > 0


# Who may have it.


@awaited
async def test_a_token_opens_what_is_private_and_goes_to_the_hub_alone() -> None:
    async with Hub() as hub:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        hub.private.add(REPO)
        async with client() as stranger:
            with pytest.raises(NotFound, match="if it is private, give a token in HF_TOKEN"):
                await stranger.puller.find(NAME, places(hub))
        async with client(TOKEN, at=hub.url) as one:
            found = await one.puller.find(NAME, places(hub))
            await fetched(one, found, pick(found))
        assert [
            visit for visit in hub.visits if visit.kind == "storage" and "authorization" in visit.asked.headers
        ] == []
        assert hub.count("storage") > 0
        async with client(login=(hub.url, TOKEN)) as one:
            assert (await one.puller.find(NAME, places(hub))).repository.files


@awaited
async def test_a_token_is_not_said_to_a_mirror_that_it_is_not_for() -> None:
    async with Hub() as hub, Hub() as mirror, client(TOKEN, at=hub.url) as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        await one.puller.find(NAME, places(hub, mirror.url))
        assert [visit.asked.headers.get("authorization") for visit in mirror.visits] == [None]
        assert [visit.asked.headers.get("authorization") for visit in hub.visits] == [f"Bearer {TOKEN}"]


@awaited
async def test_a_gated_repository_says_where_its_terms_are() -> None:
    async with Hub() as hub:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        hub.gated.add(REPO)
        for token, error in [("", Unauthenticated), (STRANGER, Forbidden)]:
            async with client(token, at=hub.url) as one:
                found = await one.puller.find(NAME, places(hub))
                with pytest.raises(error, match=f"is gated: accept its terms at {hub.url}/{REPO}"):
                    await fetched(one, found, pick(found))
        async with client(TOKEN, at=hub.url) as one:
            await fetched(one, await one.puller.find(NAME, places(hub)), pick(found))
            assert list(one.shelf.blobs.values()) == [DATA]


@awaited
async def test_a_token_is_tried_before_it_is_kept() -> None:
    async with Hub() as hub, client() as one:
        [place] = places(hub)
        await one.hub.check(place, Secret(TOKEN))
        with pytest.raises(Unauthenticated, match="does not take the token"):
            await one.hub.check(place, Secret("hf_wrong"))
    async with Hub() as hub, client("hf_wrong", at=hub.url) as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        with pytest.raises(Unauthenticated, match="does not take the token"):
            await one.puller.find(NAME, places(hub))


def test_login_keeps_a_token_once_the_hub_has_taken_it(tmp_path: Path) -> None:
    with in_a_thread(Hub()) as hub:
        shell = Shell(tmp_path / "home", environ={"HF_ENDPOINT": hub.url})
        done = shell("login", "hf.co", "-u", "me", "--password-stdin", piped="hf_wrong")
        assert (done.code, "does not take the token" in done.err) == (1, True)
        assert not shell.home.exists()
        done = shell("login", "hf.co", "-u", "me", "--password-stdin", piped=TOKEN)
        assert (done.code, done.err) == (0, f"logged in to {hub.url} as me\n")
        kept = FileCredentials(shell.home).get(Origin.parse(hub.url))
        assert kept is not None
        assert kept.password.reveal() == TOKEN
        assert shell("logout", "huggingface.co").err == f"logged out of {hub.url}\n"
        assert {visit.kind for visit in hub.visits} == {"who"}


def test_a_login_of_one_name_of_the_hub_is_one_of_the_other() -> None:
    logins = MemoryCredentials({Origin.parse("https://hf.co"): Login.parse("me", TOKEN)})
    tokens = ours.HubTokens(logins)
    assert asyncio.run(tokens.header(Origin.parse("https://huggingface.co"))) == Secret(f"Bearer {TOKEN}")
    assert asyncio.run(tokens.header(Origin.parse("https://hub.example"))) is None
    assert asyncio.run(tokens.header(Origin.parse("http://hf.co"))) is None


# Lies.


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "cannot be read"),
        (b'{"siblings": []}', "cannot be read"),
        (b'{"sha": "main", "siblings": []}', "at which commit"),
        (b'{"sha": "../../etc", "siblings": []}', "at which commit"),
        (b'{"sha": 5}', "cannot be read"),
        pytest.param(
            b'{"sha": "%b", "siblings": [%b]}' % (b"a" * 40, b",".join([b'{"rfilename": "x"}'] * 100_001)),
            "more than",
            id="too many files",
        ),
    ],
)
@awaited
async def test_a_description_that_makes_no_sense_is_refused(body: bytes, words: str) -> None:
    async with Hub(Rule("api", lambda _asked, reply: replace(reply, body=body))) as hub, client() as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        with pytest.raises(Garbled, match=words):
            await one.puller.find(NAME, places(hub))


def test_paths_that_are_none_are_left_out() -> None:
    wire = b'{"sha": "%b", "siblings": [%b]}' % (
        b"a" * 40,
        b",".join(
            b'{"rfilename": "%b"}' % path
            for path in (b"ok.gguf", b"../x", b"/etc/x", b"a//b", b"a/./b", b"", b"\\u0000", b"\\n.gguf", b"d/ok.gguf")
        ),
    )
    assert [file.path for file in ours.read_repository(wire).files] == ["ok.gguf", "d/ok.gguf"]


@pytest.mark.parametrize("sha256", ["", "AB", "../../x", "A" * 64, "a" * 63, "a" * 64 + "\\n"])
def test_digests_that_are_none_are_none(sha256: str) -> None:
    wire = f'{{"sha": "{"a" * 40}", "siblings": [{{"rfilename": "x", "size": 1, "lfs": {{"sha256": "{sha256}"}}}}]}}'
    [file] = ours.read_repository(wire.encode()).files
    assert (file.sha256, file.blob) == ("", None)


@awaited
async def test_a_storage_on_the_local_network_that_nobody_named_is_not_asked() -> None:
    async with Hub() as hub, client() as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        [place] = Registries.configured(hub=hub.url).places(NAME)
        found = await one.puller.find(NAME, [place])
        with pytest.raises(Forbidden, match="not registered"):
            await fetched(one, found, pick(found))
        assert hub.count("storage") == 0


@awaited
async def test_a_hub_that_nobody_named_may_not_be_on_the_local_network() -> None:
    [place] = Registries.configured().places(NAME)
    assert (str(place.origin), place.named, place.speaks) == ("https://huggingface.co", False, "hub")

    async def local(_host: str, _port: int) -> list[str]:
        return ["10.0.0.7"]

    async with Outbound(patience=PATIENT, lookup=local) as outbound:
        with pytest.raises(Forbidden):
            await ours.Hub(outbound, ours.HubTokens(MemoryCredentials())).repository(place, NAME)


@awaited
async def test_a_hub_that_is_not_there_is_named() -> None:
    async with Hub() as hub, client() as one:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
            await one.hub.repository(Place.parse(CLOSED, speaks="hub"), NAME)
        assert hub.visits == []


@awaited
async def test_a_listing_without_end_is_cut_off() -> None:
    endless = Rule("api", lambda _asked, reply: replace(reply, body=b'{"sha": "', length=-1, endless=b" " * 2**20))
    async with Hub(endless) as hub, client() as one:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        with pytest.raises(Garbled, match="longer than"):
            await one.puller.find(NAME, places(hub))


def test_a_file_without_a_digest_is_no_blob_yet() -> None:
    assert File("x", 5).blob is None
    assert File("x", -1, sha256="a" * 64).blob is None


# The judge: Hugging Face's own client.


@pytest.fixture(scope="module")
def judge() -> Any:
    return pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (requirements/test.txt)")


@pytest.fixture
def served() -> Iterator[Hub]:
    with in_a_thread(Hub()) as hub:
        hub.put(REPO, "Tiny-Q8_0.gguf", DATA)
        hub.put(REPO, "README.md", b"# Tiny", lfs=False)
        yield hub


def test_their_client_reads_the_repository_as_ours_does(judge: Any, served: Hub) -> None:
    theirs = judge.HfApi(endpoint=served.url, token=False).model_info(REPO, files_metadata=True)
    document = served._described(REPO, "main", Asked("GET", "", {"blobs": "true"}, {})).body
    mine = ours.read_repository(document)
    assert theirs.sha == mine.commit
    assert {(one.rfilename, one.size, one.lfs.sha256 if one.lfs else "") for one in theirs.siblings} == {
        (file.path, file.size, file.sha256) for file in mine.files
    }


def test_their_client_fetches_from_the_hub(judge: Any, served: Hub, tmp_path: Path) -> None:
    for path, data in [("Tiny-Q8_0.gguf", DATA), ("README.md", b"# Tiny")]:
        file = judge.hf_hub_download(REPO, path, endpoint=served.url, token=False, cache_dir=tmp_path)
        assert Path(file).read_bytes() == data
        # Its cache names a file by its commit, and a blob by its digest or git id: as the hub told them.
        assert Path(file).parent.name == served.commit(REPO)
    blobs = {blob.name for blob in (tmp_path / f"models--{REPO.replace('/', '--')}" / "blobs").iterdir()}
    assert blobs == {served.repositories[REPO]["Tiny-Q8_0.gguf"].sha256, served.repositories[REPO]["README.md"].git_id}


def test_their_client_understands_every_refusal(judge: Any, served: Hub, tmp_path: Path) -> None:
    errors = judge.errors
    served.put("me/gated", "m.gguf", DATA)
    served.gated.add("me/gated")
    served.put("me/secret", "m.gguf", DATA)
    served.private.add("me/secret")

    def fetch(repository: str, path: str, token: str | bool, revision: str = "main") -> None:
        judge.hf_hub_download(repository, path, endpoint=served.url, token=token, revision=revision, cache_dir=tmp_path)

    refusals: list[tuple[tuple[Any, ...], type[Exception]]] = [
        (("me/gated", "m.gguf", False), errors.GatedRepoError),
        (("me/gated", "m.gguf", STRANGER), errors.GatedRepoError),
        # By https it takes this 401 for RepositoryNotFoundError, by plain http for what it is.
        (("me/secret", "m.gguf", False), errors.HfHubHTTPError),
        (("me/secret", "m.gguf", STRANGER), errors.RepositoryNotFoundError),
        (("me/nothing", "m.gguf", TOKEN), errors.RepositoryNotFoundError),
        ((REPO, "nothing.gguf", False), errors.EntryNotFoundError),
        ((REPO, "README.md", False, "nowhere"), errors.RevisionNotFoundError),
    ]
    for arguments, kind in refusals:
        with pytest.raises(kind):
            fetch(*arguments)
    fetch("me/gated", "m.gguf", TOKEN)
    fetch("me/secret", "m.gguf", TOKEN)
    assert judge.HfApi(endpoint=served.url).whoami(token=TOKEN)["name"] == "me"
    assert not [visit for visit in served.visits if visit.kind == "storage" and "authorization" in visit.asked.headers]
