"""A request's head: from its bytes to a value, or to the reason why it is refused.

The one rule: where two readers could take the same bytes for different requests, nobody here answers them. llhttp reads
the lines; what it lets pass and should not (another version, other transfer codings, several meanings of one target) is
decided here (threat V-32). Pure.
"""

from __future__ import annotations

import re
from re import Match
from urllib.parse import unquote

from msgspec import Struct

from localmodels.core.errors import (
    ExpectationFailed,
    HeadTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    TargetTooLong,
    UnsupportedMedia,
    VersionNotSupported,
)
from localmodels.server.edge.bounds import Bounds

Headers = list[tuple[bytes, bytes]]

END = b"\r\n\r\n"
CHUNKED = -1
_LINE = re.compile(rb"([A-Z][A-Z-]*) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])\r\n")
_LINE_SO_FAR = re.compile(rb"[A-Z-]+ (/[\x21-\x22\x24-\x3e\x40-\x7e]*)")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_UPGRADE = re.compile(rb"\r\nupgrade:([^\r\n]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}[ \t]*")
_DECISIVE = frozenset({
    b"host", b"content-length", b"transfer-encoding", b"expect", b"content-encoding",
})  # fmt: skip
_NEVER = frozenset({b"CONNECT", b"TRACE"})
_NO_CODING = frozenset({b"identity", b""})
_VERSIONS = {b"1.1": "1.1", b"1.0": "1.0"}
# A switch to HTTP/2 that nobody has to accept (RFC 9110 7.8). Java's client asks for it in every request; uvicorn then
# loses the body (uvicorn issue 2722).
_NO_SWITCH = b"h2c"
_TLS_HANDSHAKE = 0x16


class Request(Struct, frozen=True):
    """A head that will be answered.

    Attributes:
        path: decoded.
        headers: names in lower case.
        length: of the body; ``CHUNKED`` says it by and by.
        keep_alive: may another request follow on this connection?
        expects: the body comes when we say so.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: Headers
    length: int
    keep_alive: bool
    expects: bool


def check_beginning(held: bytes | bytearray, fresh: int, bounds: Bounds) -> None:
    """Looks at a head that is not whole yet, so that nobody waits for the end of what is wrong already.

    Args:
        held: so far.
        fresh: from where on it is new.
        bounds: of heads.

    Raises:
        CallerError: it will not be answered, whatever comes.
    """
    _check_first_byte(held)
    if _BARE.search(held, fresh):
        raise InvalidRequest("a line of the head does not end with CR LF")
    if len(held) > bounds.line and held.find(b"\r\n", 0, bounds.line) < 0:
        raise TargetTooLong(f"the request line is longer than {bounds.line} bytes")
    if len(held) > bounds.head:
        raise HeadTooLarge(f"the head is larger than {bounds.head} bytes")


def _check_first_byte(held: bytes | bytearray) -> None:
    first = held[0]
    if first == _TLS_HANDSHAKE:
        raise InvalidRequest("this is TLS, and this server speaks plain HTTP; use http:// instead of https://")
    if not 65 <= first <= 90:
        raise InvalidRequest("a request begins with its method, in capital letters")


def path_so_far(held: bytes | bytearray) -> str:
    """The path in a head that is not whole or not right, empty when it is not known."""
    found = _LINE_SO_FAR.match(held)
    return found[1].decode("ascii") if found else ""


def check_line(head: bytes, bounds: Bounds) -> Match[bytes]:
    """Looks at the size of a whole head and at its first line, whose three words it gives.

    Raises:
        CallerError: it is too large, or not the beginning of a request in a version and a method of HTTP that is ours.
    """
    found = _LINE.match(head)
    if found is None or found.end() > bounds.line + 2:
        _check_first_byte(head)
        if head.find(b"\r\n", 0, bounds.line + 2) < 0:
            raise TargetTooLong(f"the request line is longer than {bounds.line} bytes")
        raise InvalidRequest("the first line is not: METHOD TARGET HTTP/1.1")
    if len(head) > bounds.head:
        raise HeadTooLarge(f"the head is larger than {bounds.head} bytes")
    if found[3] not in _VERSIONS:
        raise VersionNotSupported(f"HTTP/{found[3].decode()} is not spoken here; HTTP/1.1 is")
    if found[1] in _NEVER:
        raise MethodNotAllowed(f"{found[1].decode()} is not answered here")
    return found


def without_upgrade(head: bytes) -> bytes:
    """The head of a request that asks to switch to another protocol, without the wish.

    Raises:
        InvalidRequest: it has no sense without it.
    """
    wishes = b",".join(_UPGRADE.findall(head)).strip().lower()
    if wishes != _NO_SWITCH:
        raise InvalidRequest("this server does not switch to another protocol; ask without Upgrade")
    return _UPGRADE.sub(b"", head)


def request_of(line: Match[bytes], headers: Headers, *, keep_alive: bool) -> Request:
    """The request of a head.

    Args:
        line: what :func:`check_line` found.
        headers: as llhttp read them, names in lower case.
        keep_alive: may another request follow, as far as llhttp can say?

    Raises:
        CallerError: what is wrong with it.
    """
    # As HTTP has it, a header that is there twice is a list of both (RFC 9110 5.2). None of these may be a list.
    decisive: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _DECISIVE:
            decisive[name] = value if name not in decisive else b"%b, %b" % (decisive[name], value)
    method, target, said = line.groups()
    version = _VERSIONS[said]
    if target[:1] != b"/":
        target = _origin_form(method, target, decisive.get(b"host", b""))
    elif b"#" in target:
        raise InvalidRequest("the request's target has a fragment, which never leaves a browser")
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    return Request(
        method.decode("ascii"),
        unquote(path) if "%" in path else path,
        raw_path,
        query,
        version,
        headers,
        _body_length(version, decisive),
        keep_alive and version == "1.1",
        b"expect" in decisive and _expects(version, decisive[b"expect"]),
    )


def _origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    """Path and query of a target that is written in another way, as proxies get it.

    Raises:
        InvalidRequest: it means another host than the one that was asked, or nothing of ours.
    """
    if target == b"*" and method == b"OPTIONS":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None or b"#" in target:
        raise InvalidRequest("the request's target is not a path; it begins with /")
    authority, rest = found[1].lower(), found[2]
    if authority.removesuffix(b":80") != host.strip().lower().removesuffix(b":80"):
        raise InvalidRequest("the request's target and its Host header name different hosts")
    return rest if rest[:1] == b"/" else b"/" + rest


def _body_length(version: str, decisive: dict[bytes, bytes]) -> int:
    if b"content-encoding" in decisive and decisive[b"content-encoding"].strip().lower() not in _NO_CODING:
        raise UnsupportedMedia("request bodies are taken as they are; leave out Content-Encoding")
    length = decisive.get(b"content-length")
    if b"transfer-encoding" in decisive:
        if decisive[b"transfer-encoding"].strip().lower() != b"chunked":
            raise InvalidRequest("Transfer-Encoding can only be: chunked")
        if length is not None:
            raise InvalidRequest("a request has either Content-Length or Transfer-Encoding")
        if version != "1.1":
            raise InvalidRequest("HTTP/1.0 knows no Transfer-Encoding")
        return CHUNKED
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise InvalidRequest("Content-Length is not one number of bytes")
    return int(length)


def _expects(version: str, value: bytes) -> bool:
    """Does the client wait with the body until it is asked for it?

    Raises:
        ExpectationFailed: it waits for something else.
    """
    if version != "1.1":
        return False  # HTTP/1.0 has no such header, and is to be read as if it were not there (RFC 9110 10.1.1)
    if value.strip().lower() != b"100-continue":
        raise ExpectationFailed("the only expectation that can be met is 100-continue")
    return True
