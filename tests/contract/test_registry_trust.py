"""Whom the door out believes: names that change their address, certificates, and the way from https to http.

Names are given by a resolver of the test's own, so no name server is asked (threats V-18, V-19, V-21).
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.registry import lies
from tests.registry.canary import Canary
from tests.registry.clients import PACE, at, client
from tests.registry.models import TINY, model, stock
from tests.registry.server import PASSWORD, USER, Registry, Rule

from localmodels.core.catalog import ModelName
from localmodels.core.errors import BackendError, Forbidden, LocalModelsError, Unreachable
from localmodels.registry.addresses import Origin, Place, Registries, parse_url
from localmodels.registry.credentials import Login
from localmodels.registry.outbound import Outbound

OPENSSL = shutil.which("openssl")
MODEL = model(100_000)
LOGIN = Login.parse(USER, PASSWORD)


class Names:
    """A resolver: each name's addresses, the next answer at each question. ``asked`` counts the questions."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): cycle(each) for name, each in answers.items()}
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        if host not in self._answers:
            raise OSError("no such name")
        return next(self._answers[host])


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["1.1.1.1", "127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["0.0.0.0"],
        ["::"],
        ["100.64.0.1"],
        ["fe80::1%lo"],
    ],
)
@awaited
async def test_a_name_in_a_model_leads_to_no_forbidden_address(addresses: list[str]) -> None:
    """Whatever the name says of itself, nothing is connected to: the canary is on every one of them."""
    async with Canary() as canary, client(lookup=Names(registry_example=[addresses]), pace=PACE) as opened:
        places = Registries().places(ModelName.parse(f"registry.example:{canary.port}/me/tiny"))
        with pytest.raises(Forbidden, match="may not be asked"):
            await opened.puller.manifest(TINY, places)
        assert canary.connects == 0


@awaited
async def test_never_is_never_for_the_operator_too() -> None:
    async with Canary() as canary:
        url = f"http://registry.example:{canary.port}"
        names = Names(registry_example=[["169.254.169.254"]])
        async with client(url, lookup=names, pace=PACE) as opened:
            with pytest.raises(Forbidden, match="metadata"):
                await opened.puller.manifest(TINY, (at(url),))
        assert canary.connects == 0


@awaited
async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """A name whose second answer is another: a connection asks once, and goes where that answer said."""
    async with Registry() as registry:
        stock(registry, MODEL)
        url = f"http://registry.example:{registry.port}"
        names = Names(registry_example=[["127.0.0.1"], ["169.254.169.254"]])
        async with client(url, lookup=names) as opened:
            assert await opened.puller.manifest(TINY, (at(url),))
            assert (names.asked, registry.connects) == (1, 1)
        async with client(url, lookup=names, pace=PACE) as opened:
            with pytest.raises(Forbidden, match="metadata"):
                await opened.puller.manifest(TINY, (at(url),))
        assert (names.asked, registry.connects) == (2, 1)


@awaited
async def test_a_name_that_the_operator_named_may_be_here() -> None:
    async with Registry() as registry:
        stock(registry, MODEL)
        url = f"http://registry.example:{registry.port}"
        async with client(url, lookup=Names(registry_example=[["127.0.0.1"]])) as opened:
            assert (await opened.puller.manifest(TINY, (at(url),)))[0].data == MODEL.manifest
    assert registry.visits[0].asked.headers["host"] == f"registry.example:{registry.port}"


@awaited
async def test_a_connection_that_was_allowed_is_not_found_by_who_is_not() -> None:
    """The pool of what the operator named stays warm, and a model name that means the same machine gains nothing."""
    async with Registry() as registry:
        stock(registry, MODEL)
        names = Names(registry_example=[["127.0.0.1"]])
        url = f"http://registry.example:{registry.port}"
        async with client(lookup=names) as opened:
            assert await opened.puller.manifest(TINY, (at(url),))
            [place] = Registries().places(ModelName.parse(f"registry.example:{registry.port}/me/tiny"))
            with pytest.raises(Forbidden):
                await opened.puller.manifest(TINY, (place,))
            with pytest.raises(Forbidden, match="plain http"):
                await opened.puller.manifest(TINY, (Place(Origin.parse(url)),))
    assert registry.connects == 1


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "017700000001", "127.1", "0", "localhost", "localhost.", "127.0.0.1", "127.0.0.1."],
)
@awaited
async def test_no_spelling_of_this_machine_is_reached(host: str) -> None:
    """By the system's own resolver, which knows more spellings than anybody."""
    async with Canary() as canary, client(pace=PACE) as opened:
        for scheme in ("https", "http"):
            with pytest.raises(LocalModelsError):
                async with opened.outbound.open("GET", parse_url(f"{scheme}://{host}:{canary.port}/v2/")):
                    pass
        assert canary.connects == 0


@awaited
async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Canary() as canary, Registry() as registry:
        stock(registry, MODEL)
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, canary.url)
        async with client(registry.url) as opened:
            assert await opened.puller.manifest(TINY, (at(registry.url),))
        assert canary.connects == 0


@awaited
async def test_a_closed_door_is_closed() -> None:
    async with client() as opened:
        pass
    with pytest.raises(Unreachable):
        await opened.puller.manifest(TINY, Registries().places(TINY))
    with pytest.raises(Unreachable, match="closed"):
        async with Outbound().open("GET", parse_url("https://registry.example/")):
            pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side and a client's that believes it, for the name ``registry.example``."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed, so there is no certificate to test with")
    where = tmp_path_factory.mktemp("tls")
    key, certificate = where / "key.pem", where / "certificate.pem"
    make_certificate(OPENSSL, key, certificate)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


def make_certificate(openssl: str, key: Path, certificate: Path) -> None:
    """A key and a certificate that signs itself, for a day."""
    names = "subjectAltName=DNS:registry.example,IP:127.0.0.1"
    subject = ["-subj", "/CN=registry.example", "-addext", names, "-days", "1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [openssl, "req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )


@awaited
async def test_https_is_spoken_to_who_proves_its_name(authority: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, ours = authority
    async with Registry(tls=theirs, login="bearer") as registry:
        stock(registry, MODEL)
        async with client(registry.url, logins={registry.url: LOGIN}, tls=ours) as opened:
            steps = [step async for step in opened.puller.pull(TINY, (at(registry.url),))]
            assert steps
            assert set(opened.shelf.blobs.values()) == set(MODEL.contents)
        asked = len(registry.visits)
        async with client(registry.url, pace=PACE) as stranger:  # believes the system's authorities
            with pytest.raises(BackendError, match="certificate"):
                await stranger.puller.manifest(TINY, (at(registry.url),))
        other = f"https://other.example:{registry.port}"
        async with client(other, tls=ours, lookup=Names(other_example=[["127.0.0.1"]]), pace=PACE) as opened:
            with pytest.raises(BackendError, match="certificate"):
                await opened.puller.manifest(TINY, (at(other),))
        assert len(registry.visits) == asked


@pytest.mark.parametrize("kind", ["manifest", "blob"])
@awaited
async def test_https_never_leads_to_http(authority: tuple[ssl.SSLContext, ssl.SSLContext], kind: str) -> None:
    """Not even to an origin that the operator named."""
    theirs, ours = authority
    async with Canary() as canary:
        rule = Rule("manifest" if kind == "manifest" else "blob", lies.moved(canary.url))
        async with Registry(rule, tls=theirs, login="basic") as registry:
            stock(registry, MODEL)
            async with client(registry.url, canary.url, logins={registry.url: LOGIN}, tls=ours, pace=PACE) as opened:
                with pytest.raises(Forbidden, match="from https to plain http"):
                    assert [step async for step in opened.puller.pull(TINY, (at(registry.url),))]
        assert canary.connects == 0


@awaited
async def test_a_realm_on_http_gets_nothing_from_https(authority: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, ours = authority
    async with Canary() as canary, Registry(tls=theirs, login="bearer", realm=canary.url + "/token") as registry:
        async with client(registry.url, canary.url, logins={registry.url: LOGIN}, tls=ours, pace=PACE) as opened:
            with pytest.raises(Forbidden, match="plain http"):
                await opened.puller.manifest(TINY, (at(registry.url, canary.url),))
        assert canary.connects == 0


@awaited
async def test_a_realm_that_the_operator_declared_is_asked() -> None:
    async with Registry(login="none") as service, Registry(login="bearer", realm=service.url + "/token") as registry:
        registry.tokens = service.tokens
        stock(registry, MODEL)
        async with client(registry.url, service.url, logins={registry.url: LOGIN}) as opened:
            found, _ = await opened.puller.manifest(TINY, (at(registry.url, service.url),))
    assert found.data == MODEL.manifest
    [visit] = service.visits
    # The scope is what we are about to do, and not what the registry would like (`pull,push`).
    assert visit.asked.query == {"service": "tests", "scope": "repository:library/tiny:pull", "account": USER}


@awaited
async def test_an_upload_by_https_stays_there(authority: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, ours = authority
    async with Canary() as canary:
        rule = Rule("uploads", lies.header("Location", canary.url + "/upload"))
        async with Registry(rule, tls=theirs) as registry, client(registry.url, tls=ours, pace=PACE) as opened:
            opened.shelf.blobs.update(
                {blob.digest: data for blob, data in zip(MODEL.blobs, MODEL.contents, strict=True)}
            )
            with pytest.raises(Forbidden, match="not trusted"):
                assert [s async for s in opened.pusher.push(TINY, at(registry.url), MODEL.manifest, MODEL.blobs)]
        assert canary.connects == 0
