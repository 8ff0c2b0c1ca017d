"""What carries the client's requests: httpx2 and the standard library answer alike, and fail alike."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.contract.test_registry_trust import OPENSSL, make_certificate

from localmodels.client._sync import Httpx
from localmodels.client._sync_calls import Carrier
from localmodels.client.plain import Plain
from localmodels.core.errors import BackendTimeout, StreamCut, Unreachable

CARRIERS: dict[str, Callable[[str, dict[str, str], float], Carrier]] = {"plain": Plain, "httpx2": Httpx}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[socket.socket], None]
Make = Callable[..., Carrier]


@pytest.fixture(params=CARRIERS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a carrier to a URL; its 10 s are for what must not be late, on machines that do much else."""
    made: list[Carrier] = []

    def make(url: str, headers: dict[str, str] | None = None, timeout: float = 10.0) -> Carrier:
        made.append(CARRIERS[request.param](url, headers or {}, timeout))
        return made[-1]

    yield make
    for carrier in made:
        carrier.close()


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """The address of a server that accepts one connection and does with it what the script says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                script(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def request_of(connection: socket.socket, end: bytes = b"\r\n\r\n") -> bytes:
    """What came, as far as its end."""
    data = b""
    while not data.endswith(end):
        piece = connection.recv(4096)
        assert piece, "the client left in the middle of its request"
        data += piece
    return data


def answer(*pieces: bytes) -> Script:
    """Reads a request, then writes these pieces and closes."""

    def script(connection: socket.socket) -> None:
        request_of(connection)
        for piece in pieces:
            connection.sendall(piece)

    return script


def whole(carrier: Carrier) -> bytes:
    """The body that a request is answered with."""
    with carrier.open("GET", "/", None) as reply:
        return b"".join(reply.pieces())


def test_a_request_arrives_as_it_was_made(make: Make) -> None:
    seen = []

    def script(connection: socket.socket) -> None:
        seen.append(request_of(connection, b"{}"))
        connection.sendall(b"HTTP/1.1 404 Nope\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nno")

    with serving(script) as url:
        carrier = make(f"{url}/base", {"X-Y": "z", "Accept-Encoding": "identity"})
        with carrier.open("POST", "/a?c=d", b"{}") as reply:
            assert (reply.status, reply.headers["retry-after"], b"".join(reply.pieces())) == (404, "7", b"no")
    head = seen[0].lower()
    assert head.startswith(b"post /base/a?c=d http/1.1\r\n")
    own = (b"x-y: z", b"accept-encoding: identity", b"content-length: 2", b"content-type: application/json")
    for line in (*own, b"host: " + url[7:].encode()):
        assert head.count(b"\r\n" + line + b"\r\n") == 1


@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"ab", b"cde"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"abcde"),
    ],
)
def test_a_body_in_any_framing(make: Make, pieces: tuple[bytes, ...]) -> None:
    with serving(answer(*pieces)) as url:
        assert whole(make(url)) == b"abcde"


def test_a_piece_is_given_when_it_is_there(make: Make) -> None:
    taken = threading.Event()

    def script(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        assert taken.wait(10)
        connection.sendall(b"0\r\n\r\n")

    with serving(script) as url, make(url).open("GET", "/", None) as reply:
        pieces = reply.pieces()
        assert next(pieces) == b"abc"
        taken.set()
        assert list(pieces) == []


def test_leaving_closes_the_connection(make: Make) -> None:
    ended = []

    def script(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        connection.settimeout(10)
        ended.append(connection.recv(1))

    with serving(script) as url, make(url).open("GET", "/", None) as reply:
        assert next(reply.pieces()) == b"abc"
    assert ended == [b""]


@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED, b"3\r\nab"),
        (CHUNKED, b"3\r\nabc\r\n"),
        (CHUNKED, b"zz\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"ab"),
    ],
)
def test_a_body_that_is_cut_is_never_whole(make: Make, pieces: tuple[bytes, ...]) -> None:
    with serving(answer(*pieces)) as url, pytest.raises(StreamCut, match="the connection broke"):
        whole(make(url))


@pytest.mark.parametrize("pieces", [(), (b"HTT",), (b"SSH-2.0-OpenSSH\r\n",)])
def test_an_answer_that_is_none(make: Make, pieces: tuple[bytes, ...]) -> None:
    with serving(answer(*pieces)) as url, pytest.raises(Unreachable, match="without an answer"):
        whole(make(url))


@pytest.mark.parametrize(
    ("head", "words"), [(b"", "did not answer in time"), (CHUNKED + b"3\r\nabc\r\n", "fell silent")]
)
def test_silence_is_a_timeout(make: Make, head: bytes, words: str) -> None:
    given_up = threading.Event()

    def script(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(head)
        assert given_up.wait(10)

    with serving(script) as url:
        with pytest.raises(BackendTimeout, match=words):
            whole(make(url, timeout=0.2))
        given_up.set()


def test_nobody_there(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for absent in (url, "http://does-not-exist.invalid:1"):
        with pytest.raises(Unreachable, match=f"no server answers at {absent}"):
            whole(make(absent))


def test_https_is_tls(make: Make) -> None:
    first = []
    with serving(lambda connection: first.append(connection.recv(1))) as url, pytest.raises(Unreachable):
        whole(make(url.replace("http", "https", 1)))
    assert first == [b"\x16"]  # a TLS handshake record


def test_who_speaks_no_tls_is_not_nobody(make: Make) -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with (
        serving(script) as url,
        pytest.raises(Unreachable, match=r"failed \(WRONG_VERSION_NUMBER\); if it speaks plain"),
    ):
        whole(make(url.replace("http", "https", 1)))


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed, so there is no certificate to test with")
def test_who_cannot_prove_its_name_is_not_nobody(make: Make, tmp_path: Path) -> None:
    make_certificate(str(OPENSSL), tmp_path / "key.pem", tmp_path / "certificate.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")

    def script(connection: socket.socket) -> None:
        with suppress(OSError):  # it is left in the middle of the handshake
            server.wrap_socket(connection, server_side=True).close()

    with (
        serving(script) as url,
        pytest.raises(Unreachable, match=r"the certificate .* cannot be believed \(self-signed"),
    ):
        whole(make(url.replace("http", "https", 1)))


def test_a_handshake_that_is_cut_is_a_failure_of_tls(make: Make) -> None:
    with serving(request_of_tls) as url, pytest.raises(Unreachable, match=r"TLS with the server at .* failed"):
        whole(make(url.replace("http", "https", 1)))


def request_of_tls(connection: socket.socket) -> None:
    """Reads all that a client says first, so that nothing is reset, and ends in good form."""
    connection.recv(4096)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def whole_amid(error: Exception, carrier: Carrier) -> bytes:
    """The body for somebody who asks while he deals with an error."""
    try:
        raise error
    except type(error):
        return whole(carrier)


def test_what_came_before_is_not_to_blame(make: Make) -> None:
    """Who asks while he deals with another failure has that one behind the new one's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for absent in (url, url.replace("http", "https", 1)):
        error = Unreachable("another server")
        error.__cause__ = ssl.SSLError(1, "wrong version number")
        with pytest.raises(Unreachable, match="no server answers at"):
            whole_amid(error, make(absent))


def test_causes_that_go_round_in_circles_end_all_the_same(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    one, other = ValueError(), KeyError()
    one.__context__, other.__cause__ = other, one
    with pytest.raises(Unreachable, match="no server answers at"):
        whole_amid(one, make(url))
