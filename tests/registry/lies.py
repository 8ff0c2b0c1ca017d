"""Single lies: changes of an honest answer, of which scripts are made."""

from __future__ import annotations

from msgspec.structs import replace
from tests.registry.server import Change
from tests.registry.wire import Asked, Reply


def status(code: int, **headers: str) -> Change:
    """Another status, with no body that means anything."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _asked, _reply: Reply(code, named, b"" if code in {204, 304} else b"no")


def raw(data: bytes) -> Change:
    """These bytes in place of an answer, and the end of the connection."""
    return lambda _asked, _reply: Reply(raw=data)


def silent(_asked: Asked, _reply: Reply) -> Reply:
    """Nothing, for ever."""
    return Reply(silent=True)


def body(data: bytes) -> Change:
    """Another body, rightly framed."""
    return lambda _asked, reply: replace(reply, body=data)


def header(name: str, value: str | None) -> Change:
    """Another header, or one less."""

    def change(_asked: Asked, reply: Reply) -> Reply:
        kept = {key: old for key, old in reply.headers.items() if key.lower() != name.lower()}
        return replace(reply, headers=kept if value is None else {**kept, name: value})

    return change


def headers(count: int) -> Change:
    """So many more headers."""
    return lambda _asked, reply: replace(reply, headers={**reply.headers, **{f"X-{i}": "x" for i in range(count)}})


def cut(at: int, then: str = "fin") -> Change:
    """The body ends at a byte: closed, reset, or silent. Negative counts from its end."""

    def change(_asked: Asked, reply: Reply) -> Reply:
        where = at if at >= 0 else len(reply.body) + at
        return replace(reply, cut=max(0, min(where, len(reply.body))), then=then)

    return change


def drip(seconds: float) -> Change:
    """A byte, and after a while another."""
    return lambda _asked, reply: replace(reply, drip=seconds)


def endless(_asked: Asked, reply: Reply) -> Reply:
    """A body without end."""
    return replace(reply, chunked=True, endless=b" " * 65536)


def longer(_asked: Asked, reply: Reply) -> Reply:
    """More bytes than were asked for, in an answer that does not tell its length."""
    return replace(reply, chunked=True, body=reply.body + b"more" * 100)


def chunked(_asked: Asked, reply: Reply) -> Reply:
    """The truth without its length."""
    return replace(reply, chunked=True)


def wrong_bytes(_asked: Asked, reply: Reply) -> Reply:
    """The right number of other bytes."""
    return replace(reply, body=bytes(255 - byte for byte in reply.body))


def one_wrong_bit(_asked: Asked, reply: Reply) -> Reply:
    """All but one bit of the truth."""
    return replace(reply, body=bytes([reply.body[0] ^ 1]) + reply.body[1:])


def span(text: str) -> Change:
    """Another ``Content-Range``; ``{start}``, ``{last}``, ``{next}`` and ``{total}`` are those of the truth."""

    def change(asked: Asked, reply: Reply) -> Reply:
        start, stop = asked.range or (0, 1)
        total = reply.headers.get("Content-Range", "/0").rpartition("/")[2]
        said = text.format(start=start, last=start + len(reply.body) - 1, next=start + 1, stop=stop, total=total)
        return header("Content-Range", said)(asked, reply)

    return change


def few(asked: Asked, reply: Reply) -> Reply:
    """A part of one byte, truthfully called so."""
    start, _ = asked.range or (0, 1)
    total = reply.headers["Content-Range"].rpartition("/")[2]
    return header("Content-Range", f"bytes {start}-{start}/{total}")(asked, replace(reply, body=reply.body[:1]))


def half(asked: Asked, reply: Reply) -> Reply:
    """The first half of a part, truthfully called so; parts below 4 KiB whole."""
    if len(reply.body) < 4096:
        return reply
    start, _ = asked.range or (0, 1)
    total = reply.headers["Content-Range"].rpartition("/")[2]
    size = len(reply.body) // 2
    said = f"bytes {start}-{start + size - 1}/{total}"
    return header("Content-Range", said)(asked, replace(reply, body=reply.body[:size]))


def length(size: int) -> Change:
    """Another ``Content-Length``, and the connection ends behind the body."""
    return lambda _asked, reply: replace(reply, length=len(reply.body) + size)


def gzipped(_asked: Asked, reply: Reply) -> Reply:
    """Called gzip, which is enough to be refused."""
    return replace(reply, headers={**reply.headers, "Content-Encoding": "gzip"})


def moved(to: str, code: int = 307) -> Change:
    """A redirect; ``{path}`` is the path asked for."""
    return lambda asked, _reply: Reply(code, {"Location": to.format(path=asked.path)})


def then(*changes: Change) -> Change:
    """One after the other."""

    def change(asked: Asked, reply: Reply) -> Reply:
        for one in changes:
            reply = one(asked, reply)
        return reply

    return change
