"""One hostile request: what goes over the wire, and what may come back."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

# What the server may say of itself without being broken (docs/reference/errors.md); 505 answers other versions of HTTP.
DOCUMENTED = frozenset({502, 503, 504, 505, 507})


class Attack(Struct, frozen=True):
    """One.

    Attributes:
        kind: whose corpus it is from.
        name: says it well enough to find it again.
        sent: the bytes.
        wanted: the statuses that it may have; any that is documented where this is empty.
    """

    kind: str
    name: str
    sent: bytes
    wanted: tuple[int, ...] = ()

    @property
    def waits_outside(self) -> bool:
        """Is it answered by a registry, whose silence is not the server's?"""
        return self.sent.partition(b" ")[2].removeprefix(b"/ollama").startswith((b"/api/pull", b"/api/push"))


def request(
    port: int,
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    host: bytes | None = None,
) -> bytes:
    """A request of HTTP/1.1 on a connection of its own; neither targets nor headers are checked."""
    lines = [
        f"{method} {target} HTTP/1.1".encode("utf-8", "surrogatepass"),
        b"Host: " + (f"localhost:{port}".encode() if host is None else host),
        b"Connection: close",
    ]
    if body is not None:
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def with_key(sent: bytes, key: str) -> bytes:
    """The same request, with a key."""
    if not key:
        return sent
    line, end, rest = sent.partition(b"\r\n")
    return line + end + b"Authorization: Bearer " + key.encode() + end + rest
