"""What carries the client's requests: httpx2's own transport and ours answer alike, and fail alike."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from localmodels.client.transport import PlainTransport

TRANSPORTS: dict[str, Callable[[], httpx2.BaseTransport]] = {"ours": PlainTransport, "httpx2": httpx2.HTTPTransport}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[socket.socket], None]


@pytest.fixture(params=TRANSPORTS)
def client(request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    timeout = httpx2.Timeout(10.0, read=0.2)
    with httpx2.Client(transport=TRANSPORTS[request.param](), timeout=timeout, trust_env=False) as made:
        yield made


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


def test_a_request_arrives_as_it_was_made(client: httpx2.Client) -> None:
    seen = []

    def script(connection: socket.socket) -> None:
        seen.append(request_of(connection, b"{}"))
        connection.sendall(b"HTTP/1.1 404 Nope\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nno")

    with serving(script) as url:
        response = client.post(f"{url}/a%20b?c=d", content=b"{}", headers={"X-Y": "z", "Accept-Encoding": "identity"})
    head = seen[0].lower()
    assert head.startswith(b"post /a%20b?c=d http/1.1\r\n")
    for line in (b"x-y: z", b"accept-encoding: identity", b"content-length: 2", b"host: " + url[7:].encode()):
        assert head.count(b"\r\n" + line + b"\r\n") == 1
    assert (response.status_code, response.headers["retry-after"], response.text) == (404, "7", "no")


@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"ab", b"cde"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"abcde"),
    ],
)
def test_a_body_in_any_framing(client: httpx2.Client, pieces: tuple[bytes, ...]) -> None:
    with serving(answer(*pieces)) as url:
        assert client.get(url).content == b"abcde"


def test_a_piece_is_given_when_it_is_there(client: httpx2.Client) -> None:
    taken = threading.Event()

    def script(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        assert taken.wait(10)
        connection.sendall(b"0\r\n\r\n")

    with serving(script) as url, client.stream("GET", url, timeout=10) as response:
        pieces = response.iter_bytes()
        assert next(pieces) == b"abc"
        taken.set()
        assert list(pieces) == []


def test_leaving_closes_the_connection(client: httpx2.Client) -> None:
    ended = []

    def script(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        connection.settimeout(10)
        ended.append(connection.recv(1))

    with serving(script) as url, client.stream("GET", url) as response:
        assert next(response.iter_bytes()) == b"abc"
        response.close()
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
def test_a_body_that_is_cut_is_never_whole(client: httpx2.Client, pieces: tuple[bytes, ...]) -> None:
    with serving(answer(*pieces)) as url, pytest.raises(httpx2.RemoteProtocolError):
        client.get(url)


@pytest.mark.parametrize("pieces", [(), (b"HTT",), (b"SSH-2.0-OpenSSH\r\n",)])
def test_an_answer_that_is_none(client: httpx2.Client, pieces: tuple[bytes, ...]) -> None:
    with serving(answer(*pieces)) as url, pytest.raises(httpx2.RemoteProtocolError):
        client.get(url)


@pytest.mark.parametrize("head", [b"", CHUNKED + b"3\r\nabc\r\n"])
def test_silence_is_a_timeout(client: httpx2.Client, head: bytes) -> None:
    given_up = threading.Event()

    def script(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(head)
        assert given_up.wait(10)

    with serving(script) as url:
        with pytest.raises(httpx2.ReadTimeout):
            client.get(url)
        given_up.set()


def test_nobody_there(client: httpx2.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpx2.ConnectError):
        client.get(f"http://127.0.0.1:{port}")


def test_a_name_that_there_is_not(client: httpx2.Client) -> None:
    with pytest.raises(httpx2.ConnectError):
        client.get("http://does-not-exist.invalid")
