"""Hostile names, digests and manifests through the HTTP API: refused, and nothing is touched (V-01 to V-04).

Whatever is asked, all files around the store, and all names and blobs in it, are the same before and after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from tests.acceptance.serving import PATIENCE, Served, serve
from tests.registry.models import Model, model, stock
from tests.registry.server import DOCKER, Registry
from tests.registry.threads import in_a_thread
from tests.unit.core.test_catalog import HOSTILE_NAMES, hostile_digests
from tests.unit.store.written import picture
from tools.random_model import write_random_model

REFUSED = range(400, 500)
SOUND = f"sha256:{'0123456789abcdef' * 4}"


class Place:
    """A server with one model, and everything around its store."""

    def __init__(self, served: Served, registry: Registry, around: Path, weights: bytes) -> None:
        self.served = served
        self.registry = registry
        self.around = around
        self.store = around / "home/models"
        self.weights = f"sha256:{hashlib.sha256(weights).hexdigest()}"
        self.remote = f"127.0.0.1:{registry.port}/library/tiny"
        self.garbage: dict[str, Future[dict[str, Any]]] = {}
        self.client = httpx2.Client(base_url=served.url, timeout=PATIENCE)

    def picture(self) -> Mapping[str, tuple[int, str]]:
        """All files, but for the store's own notes and locks, which come and go."""
        return {path: one for path, one in picture(self.around).items() if "/.localmodels" not in path}

    def make(self, name: str, **fields: object) -> httpx2.Response:
        return self.send("/api/create", {"model": name, "stream": False, **fields})

    def send(self, path: str, body: object, method: str = "POST") -> httpx2.Response:
        # Lone surrogates are escaped; how else they might be written is no JSON, and refused before.
        return self.client.request(method, path, content=json.dumps(body).encode())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    around = tmp_path_factory.mktemp("around")
    file = write_random_model(around / "tiny.gguf")
    for precious in ("etc/passwd", "home/precious", "precious"):
        (around / precious).parent.mkdir(exist_ok=True)
        (around / precious).write_bytes(b"precious")
    with in_a_thread(Registry()) as registry, serve("--log-level", "error", home=around / "home") as served:
        place = Place(served, registry, around, file.read_bytes())
        with place.client:
            place.client.post(f"/api/blobs/{place.weights}", content=file.read_bytes()).raise_for_status()
            place.make("mine", files={"a.gguf": place.weights}, system="Hi.").raise_for_status()
            # Its files stay when it is replaced and deleted, so that its manifest can be put back.
            place.send("/api/copy", {"source": "mine", "destination": "kept"}).raise_for_status()
            with ThreadPoolExecutor(len(GARBAGE)) as pool:
                for number, (case, text) in enumerate(GARBAGE.items()):
                    place.garbage[case] = pool.submit(pulled, place, text, f"library/garbage-{number}")
                yield place
            assert place.client.get("/api/version").status_code == 200


def escaped(text: str, but: str = "") -> str:
    """As part of a path; what cannot be written is a question mark."""
    return quote(text, safe=but, errors="replace")


# Every field that carries a digest, and every one that carries a name.
DIGEST_FIELDS: Mapping[str, Callable[[Place, str], httpx2.Response]] = {
    "upload": lambda place, wrong: place.client.post(f"/api/blobs/{escaped(wrong)}", content=b"x"),
    "upload raw": lambda place, wrong: place.client.post(f"/api/blobs/{escaped(wrong, but='/:%')}", content=b"x"),
    "head": lambda place, wrong: place.client.head(f"/api/blobs/{escaped(wrong)}"),
    "files": lambda place, wrong: place.send(
        "/api/create", {"model": "x", "files": {"a.gguf": wrong}, "stream": False}
    ),
    "adapters": lambda place, wrong: place.send(
        "/api/create", {"model": "x", "from": "mine", "adapters": {"a.gguf": wrong}, "stream": False}
    ),
    "modelfile": lambda place, wrong: place.send(
        "/api/create", {"model": "x", "modelfile": f"FROM @{wrong}", "stream": False}
    ),
}  # fmt: skip
NAME_FIELDS: Mapping[str, Callable[[Place, str], httpx2.Response]] = {
    "create": lambda place, wrong: place.send("/api/create", {"model": wrong, "from": "mine", "stream": False}),
    "from": lambda place, wrong: place.send("/api/create", {"model": "x", "from": wrong, "stream": False}),
    "file name": lambda place, wrong: place.send(
        "/api/create", {"model": "x", "files": {wrong: SOUND}, "stream": False}
    ),
    "source": lambda place, wrong: place.send("/api/copy", {"source": wrong, "destination": "x"}),
    "destination": lambda place, wrong: place.send("/api/copy", {"source": "mine", "destination": wrong}),
    "delete": lambda place, wrong: place.send("/api/delete", {"model": wrong}, "DELETE"),
    "show": lambda place, wrong: place.send("/api/show", {"model": wrong}),
    "pull": lambda place, wrong: place.send("/api/pull", {"model": wrong, "insecure": True, "stream": False}),
    "push": lambda place, wrong: place.send("/api/push", {"model": wrong, "insecure": True, "stream": False}),
    "generate": lambda place, wrong: place.send("/api/generate", {"model": wrong, "prompt": "a", "stream": False}),
    "chat": lambda place, wrong: place.send("/v1/chat/completions", {"model": wrong, "messages": [], "stream": False}),
    "model": lambda place, wrong: place.client.get(f"/v1/models/{escaped(wrong)}"),
}  # fmt: skip


@pytest.mark.parametrize("field", DIGEST_FIELDS)
def test_three_hundred_spellings_of_a_digest_lead_nowhere(place: Place, field: str) -> None:
    before = place.picture()
    spellings = [one for one in hostile_digests() if one != SOUND]
    assert len(spellings) >= 300
    # A creation opens a lease first, which waits for the disk; all spellings of it are tried in tests/unit/store.
    for wrong in spellings[:: 6 if field in {"files", "adapters"} else 1]:
        answer = DIGEST_FIELDS[field](place, wrong)
        assert answer.status_code in REFUSED, (wrong, answer.status_code, answer.text)
        assert str(place.around) not in answer.text
    assert place.picture() == before


@pytest.mark.parametrize("field", NAME_FIELDS)
def test_hostile_names_lead_nowhere(place: Place, field: str) -> None:
    before = place.picture()
    for wrong in HOSTILE_NAMES:
        if field == "model" and (not wrong.strip("./") or len(wrong) > 10_000):
            continue  # another address, or none that a client sends
        if field in {"pull", "push"} and wrong.startswith("https://"):
            continue  # of these an address may stand before the name
        answer = NAME_FIELDS[field](place, wrong)
        assert answer.status_code in REFUSED, (wrong, answer.status_code, answer.text)
        assert str(place.around) not in answer.text
    assert place.picture() == before


def test_hostile_digests_in_a_manifest_that_is_pulled_lead_nowhere(place: Place) -> None:
    before = place.picture()
    sound = json.loads(model(100).manifest)
    for number, wrong in enumerate([one for one in hostile_digests() if one != SOUND][::3]):
        document = json.loads(json.dumps(sound))
        target = document["config"] if number % 2 else document["layers"][0]
        target["digest"] = wrong
        assert "sha256" not in pulled(place, json.dumps(document).encode()).get("status", "")
    assert place.picture() == before


def pulled(place: Place, manifest: bytes, repository: str = "library/tiny") -> dict[str, Any]:
    """What a pull of this manifest is answered; it must be an error."""
    stock(place.registry, Model(manifest, model(100).contents), repository)
    name = place.remote.replace("library/tiny", repository)
    answer = place.send("/api/pull", {"model": name, "insecure": True, "stream": False})
    assert answer.status_code >= 400, answer.text
    assert str(place.around) not in answer.text
    said: dict[str, Any] = answer.json()
    assert said["error"]
    return said


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(model(100).manifest), **fields}).encode()


def layer_with(**fields: Any) -> bytes:
    document = json.loads(model(100).manifest)
    document["layers"][0].update(fields)
    return json.dumps(document).encode()


# What is no manifest at all is taken for a bad moment of the registry's, and asked for again for a quarter of a minute.
GARBAGE: Mapping[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "null": b"null",
    "a list": b"[]",
    "an index": changed(mediaType="application/vnd.oci.image.index.v1+json"),
    "not a number": layer_with().replace(b'"size": 100', b'"size": NaN'),
    "too long": changed(x="x" * 4 * 2**20),
    "UTF-16": json.dumps({"schemaVersion": 2}).encode("utf-16"),
}
CONFUSED: Mapping[str, bytes] = {
    "no config": json.dumps({"schemaVersion": 2, "layers": []}).encode(),
    "another version": changed(schemaVersion=1),
    "no version": b'{"config": {}, "layers": []}',
    "a list of manifests": changed(manifests=[{"digest": SOUND}]),
    "a key twice": model(100).manifest.replace(b'{"schemaVersion": 2', b'{"schemaVersion": 2, "schemaVersion": 2'),
    "digest twice": model(100).manifest.replace(b'"digest":', b'"digest": "sha256:' + b"0" * 64 + b'", "digest":'),
    "a negative size": layer_with(size=-1),
    "a size beyond 16 TiB": layer_with(size=2**44 + 1),
    "a size beyond 64 bits": layer_with(size=2**64),
    "a huge number": layer_with(size=10**4000),
    "a fraction": layer_with(size=1.5),
    "infinity": layer_with().replace(b'"size": 100', b'"size": 1e400'),
    "two model layers": changed(layers=2 * json.loads(model(100).manifest)["layers"]),
    "too many layers": changed(layers=1025 * json.loads(model(100).manifest)["layers"]),
    "too deep": b'{"x": ' + 100_000 * b"[" + 100_000 * b"]" + b"}",
    "too many values": b'{"x": [' + b",".join([b"{}"] * 10**6) + b"]}",
    "not UTF-8": b'{"x": "\xff"}',
}


@pytest.mark.parametrize("case", CONFUSED)
def test_a_manifest_with_no_single_meaning_is_refused(place: Place, case: str) -> None:
    before = place.picture()
    pulled(place, CONFUSED[case])
    after = {path: one for path, one in place.picture().items() if path in before}
    assert after == before  # a blob that was fetched before the lie was found may lie there, and is collected
    assert not [path for path in place.picture() if path not in before and "manifests" in path]
    assert DOCKER in {media_type for media_type, _ in place.registry.manifests.values()}


@pytest.mark.parametrize("case", GARBAGE)
def test_what_is_no_manifest_at_all_is_refused(place: Place, case: str) -> None:
    """They have been asked for since this module began."""
    assert place.garbage[case].result()["error"]
    assert not list((place.store / "manifests").rglob("garbage-*"))


TINY = "manifests/registry.ollama.ai/library/mine/latest"
POSITIONS = ("blobs", "manifests", ".localmodels", ".localmodels/leases", ".localmodels/partials",
             ".localmodels/verified", ".localmodels/published", ".localmodels/lock",
             *("/".join(TINY.split("/")[:depth]) for depth in range(2, 6)))  # fmt: skip
OPERATIONS: Mapping[str, Callable[[Place], httpx2.Response]] = {
    "create": lambda place: place.make("x", files={"a.gguf": place.weights}),
    "derive": lambda place: place.make("mine", **{"from": "mine", "system": "a"}),
    "copy": lambda place: place.send("/api/copy", {"source": "mine", "destination": "y"}),
    "upload": lambda place: place.client.post(f"/api/blobs/sha256:{hashlib.sha256(b'x').hexdigest()}", content=b"x"),
    "pull": lambda place: place.send("/api/pull", {"model": place.remote, "insecure": True, "stream": False}),
    "push": lambda place: place.send("/api/push", {"model": place.remote, "insecure": True, "stream": False}),
    "show": lambda place: place.send("/api/show", {"model": "mine"}),
    "list": lambda place: place.client.get("/api/tags"),
    "delete": lambda place: place.send("/api/delete", {"model": "mine"}, "DELETE"),
}  # fmt: skip


@pytest.mark.parametrize("position", POSITIONS)
def test_a_link_at_any_position_of_the_store_is_followed_by_nobody(place: Place, position: str, tmp_path: Path) -> None:
    stock(place.registry, model(100))
    planted, target = place.store / position, tmp_path / "target"
    text = (place.store / TINY).read_bytes()
    planted.rename(target)
    planted.symlink_to(target)
    try:
        before = picture(tmp_path)
        for operation, do in OPERATIONS.items():
            answer = do(place)
            assert answer.status_code in {200, 201, *REFUSED, 500}, (operation, answer.text)
            assert str(tmp_path) not in answer.text
            assert answer.status_code < 400 or str(place.around) not in answer.text
        assert picture(tmp_path) == before
    finally:
        if planted.is_symlink():
            planted.unlink()
            target.rename(planted)
        (place.store / TINY).parent.mkdir(parents=True, exist_ok=True)
        (place.store / TINY).write_bytes(text)
    assert place.send("/api/show", {"model": "mine"}).status_code == 200
