"""Registries as the configuration names them: mirrors, plain HTTP, certificates of one's own, token services."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.acceptance.serving import Served, serve
from tests.contract.test_registry_trust import make_certificate
from tests.registry.models import Model, layer, stock
from tests.registry.server import DOCKER, PASSWORD, USER, Registry
from tests.registry.threads import in_a_thread
from tools.random_model import write_random_model

from localmodels.registry.addresses import Origin
from localmodels.registry.credentials import FileCredentials, Login

OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    weights = write_random_model(tmp_path_factory.mktemp("weights") / "tiny.gguf", end_bias=-100).read_bytes()
    config = b'{"model_format": "gguf"}'
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER,
        "config": layer("application/vnd.docker.container.image.v1+json", config),
        "layers": [layer("application/vnd.ollama.image.model", weights)],
    }
    return Model(json.dumps(manifest).encode(), (config, weights))


@pytest.fixture
def registry(model: Model) -> Iterator[Registry]:
    with in_a_thread(Registry()) as registry:
        stock(registry, model)
        yield registry


def pulls(served: Served, name: str) -> None:
    answer = served.post("/api/pull", model=name, stream=False)
    assert answer.json() == {"status": "success"}
    asked = served.post("/api/generate", model=name, prompt="a", raw=True, stream=False, options={"num_predict": 2})
    assert asked.json()["eval_count"] == 2


def refusal(served: Served, name: str) -> tuple[int, str]:
    answer = served.post("/api/pull", model=name, stream=False)
    return answer.status_code, answer.json()["error"]


def place(url: str) -> str:
    return url.partition("://")[2]


def test_a_mirror_stands_in_for_a_registry_that_cannot_be_reached(registry: Registry, tmp_path: Path) -> None:
    mirrors = f"reg.invalid=http://127.0.0.1:1,{registry.url}"
    with serve("--mirror", mirrors, home=tmp_path) as served:
        pulls(served, "reg.invalid/library/tiny")


def test_ollamas_own_names_are_looked_for_in_a_mirror_first(registry: Registry, tmp_path: Path) -> None:
    with serve("--mirror", f"registry.ollama.ai={registry.url}", home=tmp_path) as served:
        pulls(served, "tiny")


def test_a_registry_is_spoken_to_by_plain_http_once_it_is_named(registry: Registry, tmp_path: Path) -> None:
    name = f"{place(registry.url)}/library/tiny"
    with serve("--insecure-registry", place(registry.url), home=tmp_path) as served:
        pulls(served, name)
        assert refusal(served, f"{place(registry.url)}/library/nothing")[0] == 404


def test_a_login_goes_to_a_token_service_that_was_named_and_to_no_other(model: Model, tmp_path: Path) -> None:
    with ExitStack() as stack:
        service = stack.enter_context(in_a_thread(Registry(login="bearer")))
        registry = stack.enter_context(in_a_thread(Registry(login="bearer", realm=f"{service.url}/token")))
        stock(registry, model)
        registry.tokens = service.tokens
        name = f"{place(registry.url)}/library/tiny"
        FileCredentials(tmp_path).put(Origin.parse(registry.url), Login.parse(USER, PASSWORD))
        flags = ["--insecure-registry", place(registry.url)]
        with serve(*flags, home=tmp_path) as served:
            status, words = refusal(served, name)
            assert (status, "which is not trusted" in words) == (403, True)
            assert service.visits == []
        with serve(*flags, "--trusted-origin", f"{place(registry.url)}={service.url}", home=tmp_path) as served:
            pulls(served, name)
            assert service.count("token") == 1


def test_a_certificate_of_ones_own_is_believed_once_it_is_named(model: Model, tmp_path: Path) -> None:
    if OPENSSL is None:
        pytest.skip("openssl is not installed, so there is no certificate to test with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make_certificate(OPENSSL, key, certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with in_a_thread(Registry(tls=context, host="127.0.0.1")) as registry:
        stock(registry, model)
        name = f"127.0.0.1:{registry.port}/library/tiny"
        with serve(home=tmp_path / "one") as served:
            status, words = refusal(served, name)
            says = f"127.0.0.1:{registry.port} has no certificate that we believe"
            assert (status, words.startswith(says)) == (502, True)
        with serve("--ca-file", str(certificate), home=tmp_path / "two") as served:
            pulls(served, name)


def test_what_is_no_certificate_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(json.JSONDecodeError), serve("--ca-file", str(tmp_path / "ca.pem"), home=tmp_path / "home"):
        pass


def test_what_was_pulled_from_a_mirror_is_what_the_registry_would_have_given(
    registry: Registry, model: Model, tmp_path: Path
) -> None:
    with serve("--mirror", f"reg.invalid={registry.url}", home=tmp_path) as served:
        pulls(served, "reg.invalid/library/tiny")
        rows = served.get("/api/tags").json()["models"]
        digests = {row["name"]: row["digest"] for row in rows}
        assert digests["reg.invalid/library/tiny:latest"] == hashlib.sha256(model.manifest).hexdigest()


def test_what_another_model_brought_there_is_not_sent_again(registry: Registry, tmp_path: Path) -> None:
    """The registry is asked to mount it (the distribution specification: "Mounting a blob from another repository")."""
    base, mine = (f"{place(registry.url)}/team/{name}" for name in ("base", "mine"))
    with serve("--insecure-registry", place(registry.url), home=tmp_path) as served:
        pulls(served, f"{place(registry.url)}/library/tiny")
        served.post("/api/copy", source=f"{place(registry.url)}/library/tiny", destination=base).raise_for_status()
        for name, system in ((base, None), (mine, "Be brief.")):
            if system:
                made = served.post("/api/create", model=name, **{"from": base}, system=system, stream=False)
                assert made.json() == {"status": "success"}
            pushed = served.post("/api/push", model=name, insecure=True, stream=False)
            assert pushed.json() == {"status": "success"}
    sent = [visit.asked.query for visit in registry.visits if visit.kind == "upload" and visit.asked.method == "PUT"]
    weights = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    assert sent
    assert weights not in {query["digest"] for query in sent}
    assert ("team/mine", weights) in registry.linked
