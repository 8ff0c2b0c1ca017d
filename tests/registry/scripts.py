"""What a hostile or broken registry can do to a pull or a login, and how that has to end (threats V-18 to V-22).

A script is one row: the rules that lie, and either ``None`` when the transfer is made good all the same, or the class
of the error. ``says`` is what the trouble or the error names. Every row also has to leave the canaries without a
connect, or without a secret where they may be reached: that is checked for all alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace
from tests.registry import lies
from tests.registry.canary import Canary
from tests.registry.server import Change, Kind, Login, Registry, Rule, failure
from tests.registry.wire import Asked, Reply

from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Forbidden,
    Garbled,
    LocalModelsError,
    ModelDamaged,
    ModelNotFound,
    NotFound,
    StreamCut,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

MIB = 2**20


class Scene(Struct, frozen=True):
    """Where the liar may lead: ``secret`` is forbidden ground, ``open`` is named by the operator, ``storage`` too."""

    secret: Canary
    open: Canary
    storage: Registry


class Script(Struct, frozen=True):
    """One misbehaviour."""

    rules: Callable[[Scene], list[Rule]]
    error: type[LocalModelsError] | None = None
    says: str = ""
    login: Login = "basic"
    realm: Callable[[Scene], str] = lambda _scene: ""


def once(to: Kind, change: Change, method: str = "") -> Callable[[Scene], list[Rule]]:
    """The first answer lies."""
    return lambda _scene: [Rule(to, change, method, times=1)]


def always(to: Kind, change: Change, method: str = "") -> Callable[[Scene], list[Rule]]:
    """Every answer lies."""
    return lambda _scene: [Rule(to, change, method)]


def leads(to: Kind, where: Callable[[Scene], str], code: int = 307) -> Callable[[Scene], list[Rule]]:
    """Every answer is a redirect."""
    return lambda scene: [Rule(to, lies.moved(where(scene), code))]


def manifest(change: Callable[[dict[str, object]], object]) -> Callable[[Scene], list[Rule]]:
    """The manifest says something else, and its digest is that of what it says."""

    def lie(_asked: Asked, reply: Reply) -> Reply:
        wire = json.loads(reply.body)
        changed = change(wire)
        data = changed if isinstance(changed, bytes) else json.dumps(wire).encode()
        return lies.then(lies.header("Docker-Content-Digest", None), lies.body(data))(_asked, reply)

    return always("manifest", lie)


def token(change: Change) -> Callable[[Scene], list[Rule]]:
    """The token service lies."""
    return always("token", change)


def challenge(text: str | None) -> Callable[[Scene], list[Rule]]:
    """What it wants of those that it does not know."""
    return lambda _scene: [Rule("manifest", lies.header("WWW-Authenticate", text), to_strangers=True)]


def token_of(text: str) -> Change:
    """This token."""
    return lies.body(json.dumps({"token": text}).encode())


def layers(count: int) -> Callable[[Scene], list[Rule]]:
    """The manifest's layers, so many times."""

    def change(wire: dict[str, object]) -> None:
        once = wire["layers"]
        assert isinstance(once, list)
        wire["layers"] = once * count

    return manifest(change)


def layer(key: str, value: object) -> Callable[[Scene], list[Rule]]:
    """The manifest's first layer says something else."""

    def change(wire: dict[str, object]) -> None:
        layers = wire["layers"]
        assert isinstance(layers, list)
        layers[0][key] = value

    return manifest(change)


def cycle() -> Callable[[Scene], list[Rule]]:
    """Redirects that never end."""
    return lambda _scene: [Rule("manifest", lies.moved("{path}"))]


def hops(count: int) -> Callable[[Scene], list[Rule]]:
    """So many redirects to the same place, and then the answer."""
    return lambda _scene: [Rule("manifest", lies.moved("{path}"), times=count)]


def stored(scene: Scene) -> str:
    """The same path at the storage."""
    return scene.storage.url + "{path}"


# Deeper than a parser goes, and shorter than a token's answer may be.
DEEP = b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"

MANIFESTS: Mapping[str, Script] = {
    "no such model": Script(always("manifest", lambda _a, _r: failure(404, "MANIFEST_UNKNOWN")), ModelNotFound),
    "500 and then fine": Script(once("manifest", lies.status(500))),
    "503 with Retry-After": Script(once("manifest", lies.status(503, Retry_After="0"))),
    "429 with a Retry-After of years": Script(once("manifest", lies.status(429, Retry_After="999999999"))),
    "429 with a Retry-After that is none": Script(once("manifest", lies.status(429, Retry_After="soon\x00"))),
    "500 for ever": Script(always("manifest", lies.status(500)), Unavailable, "500"),
    "403": Script(always("manifest", lies.status(403)), Forbidden, "log in"),
    "400": Script(always("manifest", lies.status(400)), BackendError, "400"),
    "418": Script(always("manifest", lies.status(418)), BackendError, "418"),
    "304 that was not asked for": Script(always("manifest", lies.status(304)), BackendError, "304"),
    "204 with nothing": Script(always("manifest", lies.status(204)), BackendError, "204"),
    "206 of a manifest": Script(always("manifest", lies.status(206)), BackendError, "206"),
    "a web page": Script(always("manifest", lies.body(b"<html>log in to the hotel</html>")), Garbled),
    "5 MiB of JSON": Script(always("manifest", lies.body(b"[" + b"0," * (5 * MIB // 2) + b"0]")), Garbled, "longer"),
    "no end": Script(always("manifest", lies.endless), Garbled, "longer"),
    "gzip": Script(always("manifest", lies.gzipped), Garbled, "gzip"),
    "brotli, twice": Script(always("manifest", lies.header("Content-Encoding", "br, br")), Garbled, "br"),
    "a digest that is another's": Script(
        always("manifest", lies.header("Docker-Content-Digest", f"sha256:{'0' * 64}")), Garbled, "digest"
    ),
    "one bit": Script(always("manifest", lies.one_wrong_bit), Garbled, "digest|JSON"),
    "a list of manifests": Script(
        always("manifest", lies.header("Content-Type", "application/vnd.oci.image.index.v1+json")), Garbled, "kind"
    ),
    "two kinds at once": Script(
        always("manifest", lies.header("Content-Type", "application/vnd.oci.image.manifest.v1+json")), Garbled, "kind"
    ),
    "text/plain, as Ollama's": Script(always("manifest", lies.header("Content-Type", "text/plain; charset=utf-8"))),
    "no kind at all": Script(always("manifest", lies.header("Content-Type", None))),
    "a key twice": Script(manifest(lambda wire: b'{"schemaVersion":1,' + json.dumps(wire).encode()[1:]), ModelDamaged),
    "not UTF-8": Script(manifest(lambda _wire: b'{"schemaVersion": "\xff"}'), LocalModelsError),
    "a million brackets": Script(manifest(lambda _wire: b"[" * MIB), LocalModelsError),
    "deep where nobody looks": Script(manifest(lambda _wire: DEEP), Garbled, "JSON"),
    "a layer of negative size": Script(layer("size", -1), ModelDamaged, "the size -1"),
    "a layer of 2^70 bytes": Script(layer("size", 2**70), ModelDamaged, "the size"),
    "a digest with dots": Script(layer("digest", "sha256:../../../../etc/passwd"), ModelDamaged, "digest"),
    "5000 layers": Script(layers(5000), ModelDamaged, "layers"),
    "one byte at a time": Script(always("manifest", lies.drip(0.2)), BackendTimeout, "long|silent"),
    "silence": Script(always("manifest", lies.silent), BackendTimeout, "in time"),
    "silence in the middle": Script(always("manifest", lies.cut(50, "stall")), BackendTimeout),
    "cut once": Script(once("manifest", lies.cut(50))),
    "cut always": Script(always("manifest", lies.cut(50)), StreamCut, "broke"),
    "reset once": Script(once("manifest", lies.cut(50, "rst"))),
    "closed without a word once": Script(once("manifest", lies.raw(b""))),
    "closed without a word always": Script(always("manifest", lies.raw(b"")), Unreachable, "closed"),
    "not HTTP": Script(always("manifest", lies.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")), Garbled, "HTTP"),
    "a head of a megabyte": Script(
        always("manifest", lies.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * MIB + b"\r\n\r\n")), Garbled, "HTTP"
    ),
    "a thousand headers": Script(always("manifest", lies.headers(1000)), Garbled, "HTTP"),
    "two lengths": Script(
        always("manifest", lies.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}")), Garbled
    ),
    "a length and chunks": Script(
        always(
            "manifest",
            lies.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        ),
        LocalModelsError,
    ),
    "a chunk size of 2^80": Script(
        always(
            "manifest",
            lies.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFF\r\n{}\r\n"),
        ),
        LocalModelsError,
    ),
    "a negative length": Script(
        always("manifest", lies.raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}")), Garbled, "HTTP"
    ),
    "round and round": Script(cycle(), Garbled, "leads on"),
    "ten hops": Script(hops(10)),
    "eleven hops": Script(lambda _scene: [Rule("manifest", lies.moved("{path}"), times=11 * 7)], Garbled, "leads on"),
    "led to a stranger": Script(leads("manifest", lambda s: s.secret.url), Forbidden, "plain http"),
    "led to a stranger by its path": Script(leads("manifest", lambda s: s.secret.url[5:]), Forbidden, "plain http"),
    "led to https on this machine": Script(
        leads("manifest", lambda s: f"https://127.0.0.1:{s.secret.port}/x"), Forbidden, "local network"
    ),
    "led to https of a name of this machine": Script(
        leads("manifest", lambda s: f"https://localhost:{s.secret.port}/x"), Forbidden, "local network"
    ),
    "led to the cloud's keys": Script(
        leads("manifest", lambda _s: "https://169.254.169.254/latest/meta-data"), Forbidden, "metadata"
    ),
    "led to the cloud's keys by name": Script(
        leads("manifest", lambda _s: "https://metadata.google.internal/computeMetadata/v1/"), Forbidden, "metadata"
    ),
    "led to a file": Script(leads("manifest", lambda _s: "file:///etc/passwd"), Forbidden, "https://"),
    "led to gopher": Script(leads("manifest", lambda _s: "gopher://127.0.0.1:70/x"), Forbidden, "https://"),
    "led with a user name": Script(
        leads("manifest", lambda s: f"http://a:b@127.0.0.1:{s.open.port}/x"), Forbidden, "no user"
    ),
    "led to a space": Script(leads("manifest", lambda _s: "/v2/a b"), Forbidden, "spaces"),
    "led to a tab and a NUL": Script(leads("manifest", lambda _s: "/v2/\t\x00"), LocalModelsError),
    "led to a new line in disguise": Script(
        leads("manifest", lambda _s: "/v2/x%0d%0aX-Injected:%20yes"), ModelNotFound
    ),
    "led 9 KiB far": Script(leads("manifest", lambda _s: "/" + "x" * 9000), Forbidden, "too long"),
    "led to a place that may be asked": Script(leads("manifest", lambda s: s.open.url, 302), Unauthenticated),
    "a cookie": Script(once("manifest", lies.status(500, Set_Cookie="a=b; Path=/"))),
}

BLOBS: Mapping[str, Script] = {
    **{f"cut at byte {at}": Script(once("blob", lies.cut(at)), says="broke") for at in (0, 1, 1000, 30_000, -1)},
    **{f"reset at byte {at}": Script(once("blob", lies.cut(at, "rst")), says="broke") for at in (0, 30_000)},
    **{
        f"silence at byte {at}": Script(once("blob", lies.cut(at, "stall")), says="stalled|silent")
        for at in (0, 1, 30_000)
    },
    "every second answer cut": Script(
        lambda _scene: [Rule("blob", lies.cut(5000) if i % 2 else lies.cut(10**9), times=1) for i in range(30)]
    ),
    "cut for ever at the first byte": Script(always("blob", lies.cut(0)), StreamCut, "broke"),
    "silence for ever": Script(always("blob", lies.silent), BackendTimeout, "stalled"),
    "silence for ever after the head": Script(always("blob", lies.cut(0, "stall")), BackendTimeout, "stalled"),
    "one byte at a time": Script(always("blob", lies.drip(0.05)), BackendTimeout, "stalled"),
    "closed without a word once": Script(once("blob", lies.raw(b""))),
    "not HTTP once": Script(once("blob", lies.raw(b"hello\r\n\r\n")), says="HTTP"),
    "200 for 206 once": Script(
        once("blob", lambda a, r: replace(r, status=200) if a.range == (0, 10) else lies.status(500)(a, r)), says="500"
    ),
    "200 for 206 always": Script(lambda scene: [Rule("blob", whole(scene))], says="whole blob"),
    "200 for 206 always, and cut once": Script(
        lambda scene: [
            Rule("blob", lies.then(whole(scene), lies.cut(100_000)), times=6),
            Rule("blob", whole(scene)),
        ],
        says="broke|whole blob",
    ),
    "200 with another length": Script(
        always("blob", lambda _a, r: replace(r, status=200, body=r.body + b"x")), Garbled, "bytes for a blob of"
    ),
    "200 without a length, endless": Script(
        lambda scene: [Rule("blob", lies.then(whole(scene), lies.endless))], says="more bytes"
    ),
    "the range one byte on": Script(always("blob", lies.span("bytes {next}-{stop}/{total}")), Garbled, "asked for"),
    "the range one byte on, once": Script(once("blob", lies.span("bytes {next}-{stop}/{total}")), says="asked for"),
    "another total": Script(always("blob", lies.span("bytes {start}-{last}/9999999")), Garbled, "9999999"),
    "a total of *": Script(always("blob", lies.span("bytes {start}-{last}/*"))),
    "no range": Script(always("blob", lies.header("Content-Range", None)), Garbled, "which"),
    "a range of words": Script(always("blob", lies.header("Content-Range", "bytes all of it")), Garbled, "which"),
    "a range backwards": Script(always("blob", lies.span("bytes {last}-{start}/{total}")), Garbled),
    "a range of 30 digits": Script(
        always("blob", lies.header("Content-Range", f"bytes 0-{'9' * 30}/*")), Garbled, "which"
    ),
    "two ranges": Script(
        always(
            "blob",
            lies.then(
                lies.header("Content-Type", "multipart/byteranges; boundary=x"), lies.header("Content-Range", None)
            ),
        ),
        Garbled,
        "which",
    ),
    "half of each part": Script(always("blob", lies.half)),
    "one byte of each part": Script(always("blob", lies.few), Garbled, "few bytes"),
    "wrong bytes once": Script(once("blob", lies.wrong_bytes), says="what arrived is not"),
    "one wrong bit once": Script(once("blob", lies.one_wrong_bit), says="what arrived is not"),
    "wrong bytes always": Script(always("blob", lies.wrong_bytes), Garbled, "not those of"),
    "one wrong bit always": Script(always("blob", lies.one_wrong_bit), Garbled, "not those of"),
    "a length too long": Script(once("blob", lies.length(10)), says="bytes"),
    "a length too short": Script(once("blob", lies.length(-10)), says="bytes|HTTP"),
    "more than was asked for": Script(always("blob", lies.longer), says="more bytes"),
    "no end": Script(always("blob", lies.endless), says="more bytes"),
    "no length": Script(always("blob", lies.chunked)),
    "gzip": Script(always("blob", lies.gzipped), Garbled, "gzip"),
    "gzip once": Script(once("blob", lies.gzipped), says="gzip"),
    "416 once": Script(once("blob", lies.status(416)), says="past"),
    "416 always": Script(always("blob", lies.status(416)), Garbled, "past"),
    **{f"{code} once": Script(once("blob", lies.status(code)), says=str(code)) for code in (429, 500, 502, 503, 504)},
    "408 once": Script(once("blob", lies.status(408)), says="408"),
    "500 always": Script(always("blob", lies.status(500)), Unavailable, "500"),
    "429 always": Script(always("blob", lies.status(429, Retry_After="3600")), Unavailable, "429"),
    "404": Script(always("blob", lies.status(404)), NotFound, "no blob of this model"),
    "403": Script(always("blob", lies.status(403)), Forbidden, "log in"),
    "451": Script(always("blob", lies.status(451)), BackendError, "451"),
    "204": Script(always("blob", lies.status(204)), BackendError, "204"),
    "storage elsewhere": Script(leads("blob", stored)),
    "storage elsewhere, by 301": Script(leads("blob", stored, 301)),
    "storage elsewhere, by 308": Script(leads("blob", stored, 308)),
    "a signed address that has ended": Script(
        lambda scene: [
            Rule("blob", lies.moved(scene.storage.url + "/expired"), times=1),
            Rule("blob", lies.moved(stored(scene))),
        ],
        says="storage answered 404",
    ),
    "led to a stranger": Script(leads("blob", lambda s: s.secret.url), Forbidden, "plain http"),
    "led to every interface": Script(
        leads("blob", lambda s: f"https://0.0.0.0:{s.secret.port}/"), Forbidden, "may not be asked"
    ),
    "led to :: in brackets": Script(
        leads("blob", lambda s: f"https://[::]:{s.secret.port}/"), Forbidden, "may not be asked"
    ),
    "led to this machine in disguise": Script(
        leads("blob", lambda s: f"https://[::ffff:127.0.0.1]:{s.secret.port}/"), Forbidden, "may not be asked"
    ),
    "led to this machine in hexadecimal": Script(
        leads("blob", lambda s: f"https://0x7f000001:{s.secret.port}/"), LocalModelsError
    ),
    "led to this machine as a number": Script(
        leads("blob", lambda s: f"https://2130706433:{s.secret.port}/"), LocalModelsError
    ),
    "a cookie": Script(always("blob", lies.header("Set-Cookie", "a=b; Path=/"))),
}

LOGINS: Mapping[str, Script] = {
    "a realm elsewhere": Script(lambda _s: [], Forbidden, "not trusted", "bearer", lambda s: s.open.url + "/token"),
    "a realm on forbidden ground": Script(lambda _s: [], Forbidden, "not trusted", "bearer", lambda s: s.secret.url),
    "a realm at another port": Script(
        lambda _s: [], Forbidden, "not trusted", "bearer", lambda _s: "http://127.0.0.1:1/token"
    ),
    "a realm by https": Script(
        lambda _s: [], Forbidden, "not trusted", "bearer", lambda s: f"https://127.0.0.1:{s.open.port}/token"
    ),
    "a realm that is a file": Script(lambda _s: [], Forbidden, "https://", "bearer", lambda _s: "file:///etc/passwd"),
    "a realm with a user": Script(
        lambda _s: [], Forbidden, "no user", "bearer", lambda s: f"http://x@127.0.0.1:{s.open.port}/"
    ),
    "a realm that is none": Script(lambda _s: [], Forbidden, "", "bearer", lambda _s: "token"),
    "a realm with a quote and a new line": Script(
        challenge('Bearer realm="http://a\\"\\\r\\\nX: y"'), LocalModelsError
    ),
    "no challenge": Script(challenge(None), Unauthenticated, "a login"),
    "a login that is never taken": Script(always("manifest", lies.status(401)), Unauthenticated, "log in"),
    "a challenge of another kind": Script(
        challenge("Negotiate abc=, Digest realm=x"), Unauthenticated, "neither Basic nor Bearer"
    ),
    "a challenge of 10 KiB": Script(challenge("Bearer " + 'a="b",' * 1700), Forbidden, "names no token service"),
    "a token of 100 KiB": Script(token(token_of("a" * 100_000)), Garbled, "longer", "bearer"),
    "a token of 20 KiB": Script(token(token_of("a" * 20_000)), Garbled, "header", "bearer"),
    "a token with a new line": Script(token(token_of("a\r\nX-Injected: yes")), Garbled, "header", "bearer"),
    "a token with a space": Script(token(token_of("a b")), Garbled, "header", "bearer"),
    "no token": Script(token(lies.body(b"{}")), Garbled, "header", "bearer"),
    "a token that is a number": Script(token(lies.body(b'{"token": 5}')), Garbled, "token", "bearer"),
    "a token that is no JSON": Script(token(lies.body(b"token")), Garbled, "token", "bearer"),
    "a token that nests deep": Script(token(lies.body(DEEP)), Garbled, "token", "bearer"),
    "a token without end": Script(token(lies.endless), Garbled, "longer", "bearer"),
    "a token by gzip": Script(token(lies.gzipped), Garbled, "gzip", "bearer"),
    "a token service that is down": Script(token(lies.status(400)), Garbled, "400", "bearer"),
    "a token service that leads on": Script(
        lambda s: [Rule("token", lies.moved(s.open.url))], Garbled, "307", "bearer"
    ),
    "a token service that is silent": Script(token(lies.silent), BackendTimeout, "in time", "bearer"),
    "a token that nobody takes": Script(token(token_of("other")), Unauthenticated, "log in", "bearer"),
    "a token for no time": Script(
        lambda _s: [
            Rule("token", lambda _a, r: replace(r, body=r.body.replace(b"300", b"-1e300"))),
        ],
        login="bearer",
    ),
    "a login asked for behind a redirect": Script(
        lambda s: [Rule("manifest", lies.moved(s.open.url, 302))], LocalModelsError
    ),
}


def whole(scene: Scene) -> Change:
    """The whole blob, whatever was asked for."""

    def change(asked: Asked, reply: Reply) -> Reply:
        content = scene.storage.blobs[asked.path.rpartition("/")[2]]
        kept = {name: value for name, value in reply.headers.items() if name != "Content-Range"}
        return Reply(200, kept, content)

    return change
