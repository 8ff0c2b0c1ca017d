"""No request of ours goes where none may go, however the place is spelled and whoever leads there (V-18 to V-21).

Everything runs on an island (see ``island``): the connections to forbidden places could be made there, and a canary
answers at every one of them. Whether they were made, and what was said, is read off the wire.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest
from msgspec.structs import replace
from tests.acceptance.serving import PATIENCE, Served, serve
from tests.contract.forbidden import (
    EVERY_URL,
    FAR,
    HOSTS,
    NAMES,
    PORT,
    REFUSED_URLS,
    SERVERS,
    url,
)
from tests.contract.island import WELCOME, Endpoint, Island, NoIsland, head, island, welcome
from tests.contract.test_registry_trust import OPENSSL, make_certificate
from tests.registry.clients import PACE, Client, at, client
from tests.registry.models import TINY

from localmodels.backends.carriers import carrier_to
from localmodels.backends.far import Far
from localmodels.backends.lookup import reach_at
from localmodels.backends.pinned import transport_to
from localmodels.client import AsyncClient
from localmodels.core.address import Address
from localmodels.core.catalog import ModelName
from localmodels.core.chat import ChatRequest, Message, Text
from localmodels.core.destinations import server_url
from localmodels.core.errors import InvalidValue, LocalModelsError, Unreachable
from localmodels.core.secrets import Secret
from localmodels.core.servers import Reach, ServerSpec
from localmodels.dialects.passage import Passage
from localmodels.dialects.table import WAYS
from localmodels.registry.addresses import Registries
from localmodels.registry.credentials import Login

KEY = "sk-canary-0123456789abcdef"
PASSWORD = "canary-password-0123456789"  # Basic sends it in base64
LOGIN = Login.parse("me", PASSWORD)
FAR_NAME = "far.example"
HOME = (FAR, PORT)
CANARY = "http://127.0.0.1:5000"

# The ways on which requests of ours go to a server, each with the first of its requests.
Way = Callable[[ServerSpec], Coroutine[object, object, None]]


@pytest.fixture(scope="module")
def land() -> Iterator[Island]:
    try:
        with island() as one:
            one.names.update({name: [addresses] for name, addresses in NAMES.items()})
            one.names[FAR_NAME] = [[FAR]]
            yield one
    except NoIsland as why:
        pytest.skip(f"there can be no network for these tests: {why}")


@pytest.fixture
def home(land: Island) -> Iterator[Island]:
    """The island, with a server that answers a request with what ``answer`` is."""
    land.homes[HOME] = welcome
    yield land
    land.homes.clear()


def spec(address: str, reach: Reach = "public") -> ServerSpec:
    return ServerSpec(
        name="far", url=address, kind="ollama", key=Secret(KEY), reach=reach, registered=True, first_byte=5.0, idle=5.0
    )


@asynccontextmanager
async def opened(server: ServerSpec) -> AsyncIterator[Far]:
    far = Far(server, carrier_to(server))
    try:
        yield far
    finally:
        await far.close()


async def chat(server: ServerSpec) -> None:
    async with opened(server) as far:
        request = ChatRequest("m", (Message("user", (Text("Hello?"),)),))
        async with aclosing(far.backend.chat(request)) as events:
            async for _ in events:
                pass


async def relay(server: ServerSpec) -> None:
    async with opened(server) as far, aclosing(far.http.relay("/api/chat", b"{}", Passage(WAYS["ollama"]))) as frames:
        async for _ in frames:
            pass


async def probe(server: ServerSpec) -> None:
    async with opened(server) as far:
        await far.look()


async def models(server: ServerSpec) -> None:
    async with opened(server) as far:
        await far.describe("m")
        await far.describe("n")


async def deploy(server: ServerSpec) -> None:
    async with AsyncClient(server.url, api_key=KEY, transport=transport_to(server), environ={}) as other:
        await other.list()
        await other.copy("a", "b")
        async with aclosing(other.pull("m")) as steps:
            async for _ in steps:
                pass


ON_WAYS: Mapping[str, Way] = {"chat": chat, "relay": relay, "probe": probe, "models": models, "deploy": deploy}


async def registered(text: str, *listening: Address) -> Reach:
    return await reach_at(server_url(text), listening)


# Spellings.


def test_there_are_enough() -> None:
    assert len(set(REFUSED_URLS)) >= 80
    assert len(set(HOSTS)) >= 80
    assert len(SCRIPTS) >= 30


@pytest.mark.parametrize("text", REFUSED_URLS)
def test_it_is_registered_as_no_server(land: Island, text: str) -> None:
    with land.watched(), pytest.raises(InvalidValue) as caught:
        land.run(registered(text))
    assert caught.value.param == "url"
    assert ":pw@" not in caught.value.message


@pytest.mark.parametrize("host", SERVERS)
def test_where_servers_are_is_known_before_anything_is_sent(land: Island, host: str) -> None:
    with land.watched():
        assert land.run(registered(url(host))) in {"loopback", "private"}


@pytest.mark.parametrize("way", ON_WAYS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_of_the_internet_is_nowhere_else(land: Island, way: str, scheme: str) -> None:
    """Whatever stands in the database by now: the connection itself is refused."""
    addresses = EVERY_URL if scheme == "http" else [url(host, scheme) for host in HOSTS]
    with land.watched(secret=KEY.encode()):
        for address in addresses:
            with pytest.raises((LocalModelsError, ValueError, httpx2.InvalidURL)):  # what is no URL to anybody
                land.run(ON_WAYS[way](spec(address)))


@pytest.mark.parametrize("way", ON_WAYS)
def test_the_owners_file_leads_to_no_metadata_service_either(land: Island, way: str) -> None:
    never = ("169.254.169.254", "100.100.100.200", "[fd00:ec2::254]", "metadata.google.internal", "2852039166")
    with land.watched(secret=KEY.encode()):
        for host in (*never, "cloud.example", "0.0.0.1", "[fe80::1]", "[::ffff:169.254.169.254]", "0xa9fea9fe"):
            with pytest.raises(LocalModelsError):
                land.run(ON_WAYS[way](spec(url(host), "any")))


@pytest.mark.parametrize("insecure", [False, True])
def test_the_name_of_a_model_leads_nowhere(land: Island, *, insecure: bool) -> None:
    async def pull(one: Client, model: str) -> None:
        name = ModelName.parse(model)
        await one.puller.manifest(name, Registries().places(name, insecure=insecure, named=False))

    async def pull_all() -> None:
        async with client(pace=PACE) as one:
            for host in HOSTS:
                for model in (f"{host}:{PORT}/me/tiny", f"{host}/me/tiny"):
                    with pytest.raises(LocalModelsError):
                        await pull(one, model)

    with land.watched():
        land.run(pull_all())


def test_a_server_that_listens_is_not_registered_at_itself(land: Island) -> None:
    """Under none of its addresses; beside it, others are."""
    everywhere = Address("0.0.0.0", 8000)
    with land.watched():
        for text in ("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000", "http://10.0.0.1:8000"):
            with pytest.raises(InvalidValue, match="this very server"):
                land.run(registered(text, everywhere))
        with pytest.raises(InvalidValue, match="this very server"):
            land.run(registered("http://localhost", Address("127.0.0.1", 80)))
        assert land.run(registered("http://127.0.0.1:8001", everywhere)) == "loopback"
        assert land.run(registered("http://127.0.0.2:8000", Address("127.0.0.1", 8000))) == "loopback"


# What servers answer.

SCRIPTS: Mapping[str, bytes] = {
    **{
        f"{code} to this machine": head(f"{code} Moved", {"Location": f"{CANARY}/api/tags"})
        for code in (300, 301, 302, 303, 305, 307, 308)
    },
    "302 to a metadata service": head("302 Found", {"Location": "http://169.254.169.254/latest/meta-data/"}),
    "307 to the local network": head("307 Temporary Redirect", {"Location": "http://10.0.0.1:8000/api/chat"}),
    "307 to another port": head("307 Temporary Redirect", {"Location": f"http://{FAR}:5000/api/chat"}),
    "307 to another host": head("307 Temporary Redirect", {"Location": "http://8.8.8.8:8000/api/chat"}),
    "308 to IPv6": head("308 Permanent Redirect", {"Location": "http://[::1]:8000/"}),
    "302 without a scheme": head("302 Found", {"Location": "//127.0.0.1:5000/x"}),
    "302 with backslashes": head("302 Found", {"Location": "/\\127.0.0.1:5000/x"}),
    "302 with a user": head("302 Found", {"Location": f"http://{FAR}:8000@127.0.0.1:5000/x"}),
    "302 to a file": head("302 Found", {"Location": "file:///etc/passwd"}),
    "302 to gopher": head("302 Found", {"Location": "gopher://127.0.0.1:5000/_x"}),
    "302 twice said": head("302 Found", {"Location": f"{CANARY}/x", "location": f"http://{FAR}:8000/"}),
    "401 with a realm": head("401 Unauthorized", {"WWW-Authenticate": f'Bearer realm="{CANARY}/token",service="x"'}),
    "401 with a realm over there": head(
        "401 Unauthorized", {"WWW-Authenticate": 'Bearer realm="http://8.8.8.8:8000/token",scope="repository:x:pull"'}
    ),
    "401 Basic": head("401 Unauthorized", {"WWW-Authenticate": f'Basic realm="{CANARY}"'}),
    "401 Digest": head("401 Unauthorized", {"WWW-Authenticate": f'Digest realm="x", domain="{CANARY}", nonce="y"'}),
    "401 with resource metadata": head(
        "401 Unauthorized", {"WWW-Authenticate": f'Bearer resource_metadata="{CANARY}/.well-known/oauth"'}
    ),
    "407": head("407 Proxy Authentication Required", {"Proxy-Authenticate": f'Basic realm="{CANARY}"'}),
    "201 with a Location": head("201 Created", {"Location": f"{CANARY}/x", "Content-Location": f"{CANARY}/y"}),
    "202 with a Location": head("202 Accepted", {"Location": f"{CANARY}/x", "Operation-Location": f"{CANARY}/y"}),
    "200 with links": head("200 OK", {"Link": f'<{CANARY}/next>; rel="next", <{CANARY}/x>; rel="preload"'}),
    "200 with another service": head("200 OK", {"Alt-Svc": 'http/1.1="127.0.0.1:5000"; ma=86400, h2=":5000"'}),
    "421 with another service": head("421 Misdirected Request", {"Alt-Svc": 'h2="127.0.0.1:443"'}),
    "200 that refreshes": head("200 OK", {"Refresh": f"0; url={CANARY}/x"}),
    "200 with cookies": head("200 OK", {"Set-Cookie": "a=b; Domain=127.0.0.1", "Clear-Site-Data": '"*"'}),
    "200 with a report": head("200 OK", {"Report-To": f'{{"endpoints":[{{"url":"{CANARY}/r"}}]}}'}),
    "103 before it": f"HTTP/1.1 103 Early Hints\r\nLink: <{CANARY}/x>; rel=preload\r\n\r\n".encode() + head("200 OK"),
    "101": head("101 Switching Protocols", {"Upgrade": "h2c", "Connection": "Upgrade", "Location": CANARY}),
    "426": head("426 Upgrade Required", {"Upgrade": "TLS/1.0", "Location": f"https://127.0.0.1:443/{'x'}"}),
    "503 elsewhere": head("503 Service Unavailable", {"Retry-After": "0", "Location": f"{CANARY}/x"}),
    "a page": head(
        "200 OK", {"Content-Type": "text/html"}, b'<meta http-equiv="refresh" content="0;url=%b">' % CANARY.encode()
    ),
    "a next page": head("200 OK", body=b'{"models":[],"data":[],"next":"%b/x","has_more":true}' % CANARY.encode()),
    "models of others": head(
        "200 OK",
        body=b'{"version":"1","models":[{"name":"127.0.0.1:5000/a/b","model":"127.0.0.1:5000/a/b","size":1,'
        b'"digest":"00","modified_at":"2026-01-01T00:00:00Z","remote_host":"%b","remote_model":"x"}]}'
        % CANARY.encode(),
    ),
    "an error with an address": head(
        "400 Bad Request", body=b'{"error":"ask %b","api_base":"%b"}' % ((CANARY.encode(),) * 2)
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", ON_WAYS)
def test_no_answer_leads_anywhere(home: Island, way: str, script: str) -> None:
    """The server itself is reached, and has the key: what is looked for would be seen."""
    home.homes[HOME] = lambda request: SCRIPTS[script]
    with home.watched(HOME, secret=KEY.encode()):
        with suppress(LocalModelsError):
            home.run(ON_WAYS[way](spec(url(FAR_NAME))))
        assert HOME in home.connects()
        assert KEY.encode() in home.sent(HOME)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_registry_leads_anywhere(home: Island, script: str) -> None:
    """A registry that the operator named may lead on to the internet, but not to here, and not with his password."""
    away = ("8.8.8.8", PORT), (FAR, 5000)
    home.homes[HOME] = lambda request: SCRIPTS[script]
    secret = base64.b64encode(f"me:{PASSWORD}".encode())

    async def pull() -> None:
        place = at(url(FAR_NAME))
        async with client(url(FAR_NAME), logins={url(FAR_NAME): LOGIN}, pace=PACE) as one:
            await one.puller.manifest(TINY, (place,))

    with home.watched(HOME, *away):
        with suppress(LocalModelsError):  # some answer with a manifest of nothing
            home.run(pull())
        assert HOME in home.connects()
    assert not [one for one in away if secret in home.sent(one)]


@pytest.mark.parametrize("way", ON_WAYS)
def test_the_environment_has_no_say(home: Island, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy"):
        monkeypatch.setenv(name, CANARY if name != "no_proxy" else "")
        monkeypatch.setenv(name.upper(), CANARY if name != "no_proxy" else "")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {FAR_NAME} login other password other-password-of-the-machine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for scheme in ("http", "https"):
        with home.watched(HOME, secret=KEY.encode()):
            with suppress(LocalModelsError):
                home.run(ON_WAYS[way](spec(url(FAR_NAME, scheme))))
            assert HOME in home.connects()
            assert b"other" not in home.sent(HOME)


# Names that change what they mean.


@pytest.mark.parametrize("way", ON_WAYS)
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ([FAR], ["127.0.0.1"]),
        ([FAR], ["::1"]),
        ([FAR], ["::ffff:127.0.0.1"]),
        ([FAR], ["64:ff9b::7f00:1"]),
        ([FAR], ["0.0.0.0"]),
        ([FAR], ["10.0.0.1"]),
        ([FAR], ["fd12::1"]),
        ([FAR], ["100.64.0.1"]),
        ([FAR], ["169.254.169.254"]),
        ([FAR], ["fd00:ec2::254"]),
        ([FAR], [FAR, "127.0.0.1"]),
        ([FAR], ["127.0.0.1", FAR]),
        ([FAR], [FAR, "::1"]),
        ([FAR], []),
        (["10.0.0.1"], ["127.0.0.1"]),
        (["10.0.0.1"], ["10.0.0.1", "127.0.0.1"]),
        (["10.0.0.1"], ["169.254.169.254"]),
        (["10.0.0.1", FAR], ["::1"]),
        (["127.0.0.1"], ["169.254.169.254"]),
        (["127.0.0.1"], ["10.0.0.1"]),
        (["127.0.0.1"], [FAR]),
    ],
)
def test_a_server_stays_where_it_was_registered(
    land: Island, way: str, first: Sequence[str], then: Sequence[str]
) -> None:
    """The name is asked once for each connection, and leads to what was judged or nowhere."""
    land.names["turn.example"] = [first, then]
    for scheme in ("http", "https"):
        land.names["turn.example"] = [first, then]
        with land.watched(secret=KEY.encode()):
            reach = land.run(registered(url("turn.example", scheme)))
            with pytest.raises(Unreachable):
                land.run(ON_WAYS[way](spec(url("turn.example", scheme), reach)))


@pytest.mark.parametrize("way", ["probe", "models", "deploy"])
def test_between_two_requests_the_name_turns(home: Island, way: str) -> None:
    """The first is answered, and its connection closed; the second goes nowhere."""
    home.homes[HOME] = lambda request: head("200 OK", {"Connection": "close"}, b'{"models":[],"version":"1"}')
    home.names["turn.example"] = [[FAR], [FAR], ["127.0.0.1"]]
    with home.watched(HOME, secret=KEY.encode()):
        assert home.run(registered(url("turn.example"))) == "public"
        with pytest.raises(LocalModelsError):
            home.run(ON_WAYS[way](spec(url("turn.example"))))
        assert home.connects() == [HOME]


@pytest.mark.parametrize("way", ["chat", "relay"])
def test_a_connection_that_is_kept_asks_nobody(home: Island, way: str) -> None:
    """Ten requests to a server cost one look at its name."""
    answer = head("200 OK", {"Content-Type": "application/x-ndjson"}, b'{"model":"m","message":{"role":"assistant",'
                  b'"content":"hi"},"done":true,"done_reason":"stop"}\n')  # fmt: skip
    home.homes[HOME] = lambda request: answer
    home.asked.clear()

    async def ten() -> None:
        async with opened(spec(url(FAR_NAME))) as far:
            for _ in range(10):
                asked = far.http.relay("/api/chat", b"{}", Passage(WAYS["ollama"]))
                if way == "chat":
                    asked = far.backend.chat(ChatRequest("m", (Message("user", (Text("Hello?"),)),)))  # type: ignore[assignment]
                async with aclosing(asked) as pieces:
                    async for _ in pieces:
                        pass

    with home.watched(HOME):
        home.run(ten())
        assert home.connects() == [HOME]
    assert home.asked == [FAR_NAME]


def test_of_several_addresses_one_that_answers_is_found(land: Island) -> None:
    """All of them are judged; that the first is dead harms nobody."""
    land.names["two.example"] = [["93.184.216.35", FAR]]
    answer = head("200 OK", body=b'{"models":[]}')
    with land.listening((FAR, 9000), lambda request: answer):
        for way in ("models", "deploy"):
            with land.watched((FAR, 9000), ("93.184.216.35", 9000), secret=b""):
                with suppress(LocalModelsError):  # there is no such model to be told of
                    land.run(ON_WAYS[way](spec("http://two.example:9000")))
                assert KEY.encode() in land.sent((FAR, 9000))


def test_an_address_that_swallows_everything_does_not_hide_the_others(land: Island) -> None:
    """Many names have an IPv6 address that leads nowhere from here."""
    land.names["two.example"] = [["93.184.216.35", FAR]]

    def swallow() -> ExitStack:
        """A listener whose queue is full: what comes then is neither taken nor refused."""
        full = ExitStack()
        listener = full.enter_context(socket.create_server(("93.184.216.35", 9001), backlog=0))
        for _ in range(4):
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        return full

    full = land.call(swallow)
    answer = head("200 OK", body=b'{"models":[]}')
    try:
        with (
            land.listening((FAR, 9001), lambda request: answer),
            land.watched((FAR, 9001), ("93.184.216.35", 9001)),
            suppress(LocalModelsError),
        ):
            land.run(models(spec("http://two.example:9001")))
            assert ("93.184.216.35", 9001) in land.connects()
            assert KEY.encode() in land.sent((FAR, 9001))
    finally:
        full.close()


# The same by https.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS, and the file by which clients believe it, for ``registry.example``."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed, so there is no certificate to test with")
    where = tmp_path_factory.mktemp("tls")
    make_certificate(OPENSSL, where / "key.pem", where / "certificate.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(where / "certificate.pem", where / "key.pem")
    return server, where / "certificate.pem"


@pytest.mark.parametrize("way", ON_WAYS)
def test_no_answer_leads_anywhere_by_https(land: Island, way: str, certificate: tuple[ssl.SSLContext, Path]) -> None:
    """The certificate is that of the name, though it is an address that is connected to."""
    theirs, authority = certificate
    land.names["registry.example"] = [[FAR]]
    heard: list[bytes] = []
    answers: list[bytes] = []

    def answer(request: bytes) -> bytes:
        heard.append(request)
        return answers[-1]

    server = replace(spec("https://registry.example:9443"), ca_file=authority)
    with land.listening((FAR, 9443), answer, theirs), land.watched((FAR, 9443), secret=KEY.encode()):
        for script in SCRIPTS.values():
            answers.append(script)
            heard.clear()
            with suppress(LocalModelsError):
                land.run(ON_WAYS[way](server))
            assert KEY.encode() in heard[0]
            assert b"\r\nhost: registry.example:9443\r\n" in heard[0].lower()


@pytest.mark.parametrize("way", ON_WAYS)
def test_a_name_that_turned_has_another_certificate(
    land: Island, way: str, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    theirs, authority = certificate
    land.names["other.example"] = [[FAR]]
    heard: list[bytes] = []

    def answer(request: bytes) -> bytes:
        heard.append(request)
        return WELCOME

    server = replace(spec("https://other.example:9443"), ca_file=authority)
    with land.listening((FAR, 9443), answer, theirs), pytest.raises(LocalModelsError):
        land.run(ON_WAYS[way](server))
    assert heard == []


# The whole program.

Asked = tuple[str, str, object]  # method, path, body
SIDE_BY_SIDE = 24


class Program:
    """One that is asked by its administrator, or by somebody whom he trusts with models alone."""

    def __init__(self, served: Served) -> None:
        self.at: Endpoint = ("127.0.0.1", int(served.url.rpartition(":")[2]))
        self._client = httpx2.Client(base_url=served.url, timeout=PATIENCE, trust_env=False, verify=False)
        self._admin = served.admin_key
        wish = {"name": "guest", "scopes": ["manage", "infer", "list", "observe"]}
        self._guest: str = self.ask(("POST", "/api/keys", wish), admin=True).json()["key"]

    def ask(self, what: Asked, *, admin: bool = False) -> httpx2.Response:
        method, path, body = what
        headers = {"Authorization": f"Bearer {self._admin if admin else self._guest}"}
        return self._client.request(method, path, json=body, headers=headers)

    def ask_all(self, asked: Iterable[Asked], *, admin: bool = False) -> list[Asked]:
        """Those of them that were answered as if nothing was wrong. Some wait for names that nobody knows."""
        with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
            answers = threads.map(lambda what: (what, self.ask(what, admin=admin)), asked)
            return [what for what, answer in answers if answer.status_code < 400]

    def close(self) -> None:
        self._client.close()


@contextmanager
def running(land: Island, where: Path, port: int, *flags: str, **servers: str) -> Iterator[Served]:
    """The program on the island, with these servers in its file, and a key for each."""
    tables = "".join(
        f'[[servers]]\nname = "{name}"\nurl = "{address}"\nkind = "ollama"\nkey_env = "FAR_KEY"\n'
        for name, address in servers.items()
    )
    settings = where / f"{port}.toml"
    settings.write_text(f"register_ollama = false\n{tables}")
    began = serve(
        "--config", str(settings), *flags,
        home=where / str(port), listen=f"127.0.0.1:{port}", environ={"FAR_KEY": KEY},
    )  # fmt: skip
    opened = ExitStack()
    try:
        yield land.call(lambda: opened.enter_context(began))
    finally:
        land.call(opened.close)


@pytest.fixture(scope="module")
def program(land: Island, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    where = tmp_path_factory.mktemp("program")
    with running(land, where, 9100, "--require-key", far=url(FAR_NAME)) as served:
        one = land.call(lambda: Program(served))
        yield one
        one.close()


def create(**fields: object) -> Asked:
    return "POST", "/api/create", {"model": "made", "stream": False, **fields}


def picture(path: str, part: object, **fields: object) -> Asked:
    content = [{"type": "text", "text": "What is this?"}, part]
    return "POST", path, {"model": "far/m", "messages": [{"role": "user", "content": content}], **fields}


def response(part: object) -> Asked:
    return "POST", "/v1/responses", {"model": "far/m", "input": [{"role": "user", "content": [part]}]}


# By which a caller could send us somewhere: what he asks, with a host or a URL in it.
BY_NAME: Mapping[str, Callable[[str], Asked]] = {
    "pull": lambda host: ("POST", "/api/pull", {"model": f"{host}:{PORT}/me/tiny", "stream": False}),
    "insecure pull": lambda host: (
        "POST", "/api/pull", {"model": f"{host}:{PORT}/me/tiny", "insecure": True, "stream": False},
    ),
    "pull by http": lambda host: ("POST", "/api/pull", {"model": f"http://{host}:{PORT}/me/tiny", "stream": False}),
    "push": lambda host: ("POST", "/api/push", {"model": f"{host}:{PORT}/me/tiny", "stream": False}),
    "from": lambda host: create(**{"from": f"{host}:{PORT}/me/tiny"}),
    "modelfile": lambda host: create(modelfile=f"FROM {host}:{PORT}/me/tiny"),
    "modelfile by http": lambda host: create(modelfile=f"FROM http://{host}:{PORT}/me/tiny"),
    "chat": lambda host: ("POST", "/api/chat", {"model": f"{host}:{PORT}/me/tiny", "messages": [], "stream": False}),
    "show": lambda host: ("POST", "/api/show", {"model": f"{host}:{PORT}/me/tiny"}),
}  # fmt: skip
BY_URL: Mapping[str, Callable[[str], Asked]] = {
    "OpenAI's pictures": lambda at: picture("/v1/chat/completions", {"type": "image_url", "image_url": {"url": at}}),
    "Anthropic's pictures": lambda at: picture(
        "/v1/messages", {"type": "image", "source": {"type": "url", "url": at}}, max_tokens=9
    ),
    "pictures of responses": lambda at: response({"type": "input_image", "image_url": at}),
    "files of responses": lambda at: response({"type": "input_file", "file_url": at}),
    "Ollama's pictures": lambda at: (
        "POST", "/api/chat", {"model": "far/m", "messages": [{"role": "user", "content": "?", "images": [at]}]},
    ),
    "server_url": lambda at: ("GET", f"/api/models/server/models?{urlencode({'server_url': at})}", None),
    "server of a deployment": lambda at: (
        "POST", "/models/create/", {"model": "x", "model_name_on_ollama": "m", "server": at},
    ),
    "server of a pull": lambda at: ("POST", "/api/pull", {"model": "m", "server": at, "stream": False}),
    "base of an API": lambda at: (
        "POST", "/v1/chat/completions",
        {"model": "nobody", "messages": [{"role": "user", "content": "?"}], "api_base": at, "base_url": at, "url": at},
    ),
}  # fmt: skip


@pytest.mark.parametrize("door", [*BY_NAME, *BY_URL])
def test_no_caller_sends_us_anywhere(land: Island, program: Program, door: str) -> None:
    asked = [BY_NAME[door](host) for host in HOSTS] if door in BY_NAME else [BY_URL[door](at) for at in EVERY_URL]
    with land.watched(program.at, HOME, secret=KEY.encode()):
        assert land.call(lambda: program.ask_all(asked)) == []


def test_nobody_registers_what_is_no_server(land: Island, program: Program) -> None:
    """Not the administrator either."""
    rows = [{"name": f"one {number}", "url": at, "key": KEY} for number, at in enumerate(REFUSED_URLS)]
    with land.watched(program.at, HOME, secret=KEY.encode()):
        assert land.call(lambda: program.ask_all([("POST", "/api/servers/", row) for row in rows], admin=True)) == []


def test_two_that_stand_behind_each_other_end_a_request(land: Island, tmp_path: Path) -> None:
    """It comes back to the first and goes no further, however long the name is."""
    one, other = ("127.0.0.1", 9101), ("127.0.0.1", 9102)
    body = {"model": "there/back/there/back/m", "messages": [{"role": "user", "content": "?"}], "stream": False}
    with (
        running(land, tmp_path, 9101, there="http://127.0.0.1:9102") as first,
        running(land, tmp_path, 9102, back="http://127.0.0.1:9101"),
        land.watched(one, other),
    ):
        answer = land.call(lambda: httpx2.post(f"{first.url}/api/chat", json=body, timeout=PATIENCE, trust_env=False))
        assert answer.status_code >= 500
        assert "has been here before" in answer.text
        assert land.sent(one).count(b"POST /api/chat") == 2  # ours, and the one that came back
        assert land.sent(other).count(b"POST /api/chat") == 1
