"""Requests that two parsers could read differently (threat V-32), and what is to become of each.

Every case says what the client hears, one entry for each answer: the words of an :func:`echo` where there is one
reading, or the status of a refusal, after which the connection is closed.
"""

from __future__ import annotations

from msgspec import Struct
from starlette.types import Receive, Scope, Send


class Case(Struct, frozen=True):
    """What is sent on one connection, and what is heard: what was read, or the status of a refusal."""

    name: str
    sent: bytes
    heard: tuple[str | int, ...]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it understood."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    said = b"%b %b|%b" % (scope["method"].encode(), scope["path"].encode(), body)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


HOST = b"Host: a\r\n"
GET = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
NEXT = "GET /next|"


def post(headers: bytes, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


def line(first: bytes) -> bytes:
    return first + b"\r\n" + HOST + b"\r\n"


def header(text: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + HOST + text + b"\r\n\r\n" + GET


READ_IN_ONE_WAY = (
    Case("one", GET, (NEXT,)),
    Case("two behind each other", GET + GET, (NEXT, NEXT)),
    Case("a length", post(b"Content-Length: 3\r\n", b"abc") + GET, ("POST /|abc", NEXT)),
    Case("a length of 0", post(b"Content-Length: 0\r\n", b"") + GET, ("POST /|", NEXT)),
    Case("a length with zeros", post(b"Content-Length: 003\r\n", b"abc") + GET, ("POST /|abc", NEXT)),
    Case("a length and spaces", post(b"Content-Length:  3 \t\r\n", b"abc") + GET, ("POST /|abc", NEXT)),
    Case("no length is no body", post(b"", b"") + GET, ("POST /|", NEXT)),
    Case("a body that looks like a request", post(b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN) + GET,
         (f"POST /|{HIDDEN.decode()}", NEXT)),
    Case("chunks", chunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") + GET, ("POST /|abcde", NEXT)),
    Case("no chunks", chunked(b"0\r\n\r\n") + GET, ("POST /|", NEXT)),
    Case("chunks in capitals", chunked(b"A\r\n0123456789\r\n0\r\n\r\n") + GET, ("POST /|0123456789", NEXT)),
    Case("a size with zeros", chunked(b"0003\r\nabc\r\n000\r\n\r\n") + GET, ("POST /|abc", NEXT)),
    Case("an extension", chunked(b"3;a=b\r\nabc\r\n0;c\r\n\r\n") + GET, ("POST /|abc", NEXT)),
    Case("a trailer", chunked(b"3\r\nabc\r\n0\r\nX: a\r\n\r\n") + GET, ("POST /|abc", NEXT)),
    Case("an empty line in a chunk", chunked(b"6\r\na\r\n\r\nb\r\n0\r\n\r\n") + GET, ("POST /|a\r\n\r\nb", NEXT)),
    Case("an end in a chunk", chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n") + GET, ("POST /|0\r\n\r\n", NEXT)),
    Case("a request in a chunk", chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)) + GET,
         (f"POST /|{HIDDEN.decode()}", NEXT)),
    Case("a coding in capitals", post(b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n") + GET, ("POST /|", NEXT)),
    Case("an empty line in front", b"\r\n" + GET, (NEXT,)),
    Case("an empty line between", post(b"Content-Length: 3\r\n", b"abc") + b"\r\n" + GET, ("POST /|abc", NEXT)),
    Case("close", b"GET / HTTP/1.1\r\n" + HOST + b"Connection: foo, Close\r\n\r\n" + GET, ("GET /|",)),
    Case("version 1.0", b"GET / HTTP/1.0\r\n" + HOST + b"\r\n" + GET, ("GET /|",)),
    Case("a length in version 1.0", b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", ("POST /|abc",)),
    Case("the whole address", line(b"GET http://a/b HTTP/1.1"), ("GET /b|",)),
    Case("the whole address and its port", line(b"GET HTTP://A:80/b?c HTTP/1.1"), ("GET /b|",)),
    Case("the whole address without a path", line(b"GET http://a HTTP/1.1"), ("GET /|",)),
    Case("all of it", line(b"OPTIONS * HTTP/1.1"), ("OPTIONS *|",)),
    Case("old letters in a value", header(b"X: \xe4\xff"), ("GET /|", NEXT)),
    Case("a switch to HTTP/2 in an offer", post(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"
        b"Content-Length: 3\r\n", b"abc") + GET, ("POST /|abc", NEXT)),
    Case("the same in chunks", post(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n") + GET, ("POST /|abc", NEXT)),
    Case("a switch that nobody connects to", post(b"Upgrade: websocket\r\nContent-Length: 3\r\n", b"abc") + GET,
         ("POST /|abc", NEXT)),
    Case("an expectation", post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc") + GET, ("POST /|abc", NEXT)),
    Case("an expectation in 1.0", b"POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 3\r\n\r\nabc", ("POST /|abc",)),
    Case("no coding", post(b"Content-Encoding: identity\r\nContent-Length: 3\r\n", b"abc"), ("POST /|abc",)),
)  # fmt: skip

BODIES = (
    Case("both framings", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n") + HIDDEN, (400,)),
    Case("both, the other way", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), (400,)),
    Case("two lengths", post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"), (400,)),
    Case("one length twice", post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), (400,)),
    Case("a list of lengths", post(b"Content-Length: 3, 3\r\n", b"abc"), (400,)),
    Case("a plus", post(b"Content-Length: +3\r\n", b"abc"), (400,)),
    Case("a minus", post(b"Content-Length: -3\r\n", b"abc"), (400,)),
    Case("a length in hex", post(b"Content-Length: 0x3\r\n", b"abc"), (400,)),
    Case("a length with an underscore", post(b"Content-Length: 1_0\r\n", b"0123456789"), (400,)),
    Case("a length with a point", post(b"Content-Length: 3.0\r\n", b"abc"), (400,)),
    Case("a length with a space in it", post(b"Content-Length: 3 3\r\n", b"abc"), (400,)),
    Case("no number", post(b"Content-Length: \r\n", b"abc"), (400,)),
    Case("more than there is", post(b"Content-Length: 99999999999999999999\r\n", b"abc"), (400,)),
    Case("another coding", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n") + HIDDEN, (400,)),
    Case("a coding that is none", post(b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n", b"abc"), (400,)),
    Case("two codings", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n") + HIDDEN, (400,)),
    Case("chunked twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), (400,)),
    Case("chunked in a list", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), (400,)),
    Case("a coding and another line", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", b"0\r\n\r\n"),
         (400,)),
    Case("a coding behind a tab", post(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"), (400,)),
    Case("a quoted coding", post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), (400,)),
    Case("a coding in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, (400,)),
    Case("a size in 0x", chunked(b"0x3\r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("a size with a plus", chunked(b"+3\r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("a size below zero", chunked(b"-1\r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("a size with an underscore", chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"), (400,)),
    Case("a size behind a space", chunked(b" 3\r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("a size before a space", chunked(b"3 \r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("no size", chunked(b"\r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("a size without an end", chunked(b"f" * 17 + b"\r\nabc"), (400,)),
    Case("a size that ends with LF", chunked(b"3\nabc\r\n0\r\n\r\n"), (400,)),
    Case("a size that ends with CR", chunked(b"3\rabc\r\n0\r\n\r\n"), (400,)),
    Case("a chunk that ends with LF", chunked(b"3\r\nabc\n0\r\n\r\n"), (400,)),
    Case("a chunk that is longer", chunked(b"3\r\nabcd\r\n0\r\n\r\n"), (400,)),
    Case("LF in an extension", chunked(b"3;a\nb\r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("CR in an extension", chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n"), (400,)),
    Case("a line in a quoted extension", chunked(b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n'), (400,)),
    Case("an end with LF", chunked(b"3\r\nabc\r\n0\n\n"), (400,)),
    Case("an end that LF ends", chunked(b"3\r\nabc\r\n0\r\n\n"), (400,)),
    Case("a length in a trailer", chunked(b"0\r\nContent-Length: 5\r\n\r\n"), (400,)),
    Case("a coding in a trailer", chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), (400,)),
    Case("a trailer without a name", chunked(b"0\r\nX a\r\n\r\n"), (400,)),
    Case("more framing than contents", chunked(b"1;" + b"a" * 33_000 + b"\r\na\r\n0\r\n\r\n"), (400,)),
    Case("a body in another coding", post(b"Content-Encoding: gzip\r\nContent-Length: 3\r\n", b"abc"), (415,)),
    Case("codings in a list", post(b"Content-Encoding: identity, br\r\nContent-Length: 3\r\n", b"abc"), (415,)),
    Case("another expectation", post(b"Expect: x\r\nContent-Length: 3\r\n", b"abc"), (417,)),
    Case("two expectations", post(b"Expect: 100-continue, x\r\nContent-Length: 3\r\n", b"abc"), (417,)),
)  # fmt: skip

HEADS = (
    Case("LF", b"GET / HTTP/1.1\nHost: a\n\n", (400,)),
    Case("LF behind the line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", (400,)),
    Case("LF behind a header", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", (400,)),
    Case("LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n" + HIDDEN, (400,)),
    Case("CR behind a header", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", (400,)),
    Case("LF in front", b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    Case("two empty lines in front", b"\r\n\r\n" + GET, (400,)),
    Case("another line", header(b"X: a\r\n b"), (400,)),
    Case("another line behind a tab", header(b"X: a\r\n\tb"), (400,)),
    Case("a first header behind a space", b"GET / HTTP/1.1\r\n " + HOST + b"\r\n", (400,)),
    Case("a space before the colon", header(b"X : a"), (400,)),
    Case("a tab before the colon", header(b"X\t: a"), (400,)),
    Case("no colon", header(b"X"), (400,)),
    Case("no name", header(b": a"), (400,)),
    Case("a name in brackets", header(b"X(y): a"), (400,)),
    Case("a name of another alphabet", header(b"X\xc3\xa4: a"), (400,)),
    Case("NUL in a name", header(b"X\x00: a"), (400,)),
    Case("NUL in a value", header(b"X: a\x00b"), (400,)),
    Case("DEL in a value", header(b"X: a\x7fb"), (400,)),
    Case("CR in a value", header(b"X: a\rb"), (400,)),
    Case("version 0.9", b"GET /x\r\n\r\n", (400,)),
    Case("version 0.9 and LF", b"GET /x\nHost: a\r\n\r\n" + HIDDEN, (400,)),
    Case("version 0.9 with headers", b"GET /x\r\nHost: a\r\n\r\n" + HIDDEN, (400,)),
    Case("version 0.9 in words", line(b"GET / HTTP/0.9"), (505,)),
    Case("version 1.2", line(b"GET / HTTP/1.2"), (505,)),
    Case("version 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
    Case("a version in small letters", line(b"GET / http/1.1"), (400,)),
    Case("a version with zeros", line(b"GET / HTTP/01.1"), (400,)),
    Case("a version of another protocol", line(b"GET / RTSP/1.0"), (400,)),
    Case("two spaces", line(b"GET  / HTTP/1.1"), (400,)),
    Case("a tab", line(b"GET\t/ HTTP/1.1"), (400,)),
    Case("a space behind", line(b"GET / HTTP/1.1 "), (400,)),
    Case("a space in the target", line(b"GET /a b HTTP/1.1"), (400,)),
    Case("a control in the target", line(b"GET /a\x01b HTTP/1.1"), (400,)),
    Case("NUL in the target", line(b"GET /a\x00b HTTP/1.1"), (400,)),
    Case("another alphabet in the target", line("GET /ä HTTP/1.1".encode()), (400,)),
    Case("a fragment", line(b"GET /a#b HTTP/1.1"), (400,)),
    Case("no path", line(b"GET a HTTP/1.1"), (400,)),
    Case("another host", line(b"GET http://b/ HTTP/1.1"), (400,)),
    Case("another port", line(b"GET http://a:81/ HTTP/1.1"), (400,)),
    Case("a user in the address", line(b"GET http://a@b/ HTTP/1.1"), (400,)),
    Case("an address and no host", b"GET http://a/ HTTP/1.1\r\n\r\n", (400,)),
    Case("an address and two hosts", b"GET http://a/ HTTP/1.1\r\n" + HOST + b"Host: b\r\n\r\n", (400,)),
    Case("another scheme", line(b"GET ftp://a/ HTTP/1.1"), (400,)),
    Case("all of it with another method", line(b"GET * HTTP/1.1"), (400,)),
    Case("a tunnel", line(b"CONNECT a:443 HTTP/1.1"), (405,)),
    Case("a mirror", line(b"TRACE / HTTP/1.1"), (405,)),
    Case("a method of nobody", line(b"HELLO / HTTP/1.1"), (405,)),
    Case("a method in small letters", line(b"get / HTTP/1.1"), (400,)),
    Case("another protocol", header(b"Connection: Upgrade\r\nUpgrade: websocket"), (400,)),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
    Case("no HTTP", b"{}\r\n\r\n", (400,)),
    Case("a long line", line(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), (414,)),
    Case("a line without an end", b"GET /" + b"a" * 9000, (414,)),
    Case("a large head", header(b"X: " + b"a" * 33_000), (431,)),
    Case("a head without an end", b"GET / HTTP/1.1\r\nX: " + b"a" * 33_000, (431,)),
    Case("many headers", header(b"\r\n".join([b"X: a"] * 101)), (431,)),
)  # fmt: skip

CASES = READ_IN_ONE_WAY + BODIES + HEADS
