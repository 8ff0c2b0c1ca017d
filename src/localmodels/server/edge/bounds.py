"""Every bound of the edge in one value. Where a number has no word of its own it is reliability's (docs/why.md)."""

from __future__ import annotations

from msgspec import Struct


class Bounds(Struct, frozen=True):
    """What one client, and all together, may take of us. Sizes are bytes, times are seconds.

    Attributes:
        line: a request's first line.
        head: all of a request's head.
        lines: headers of a request.
        head_time: from a head's first byte to its last; for a new connection, from its beginning.
        body_grace: before the rate of a body counts.
        body_rate: bytes a second that a body must bring.
        body_rest: the longest that a body may come to a stop, having been fast enough before.
        body_time: for a whole body, unless the endpoint takes it as a stream.
        body_high: of a body that the application has not taken yet; then reading pauses.
        ahead: of requests behind the one that is being answered; more of them are not kept.
        idle: between two requests.
        connections: at a time.
        per_address: of them from one address, but this machine's own; of IPv6 from one /64 network.
        write_high: of an answer that the client has not taken yet; then writing pauses.
        blocked: a client may take nothing of its answer.
        buffered: of bodies on their way, in all connections together.
        linger: after the last answer, for the client to read it and to close, while it may still send.
        wasted: bytes read for nothing on one connection.
        hurry: while draining, for requests whose head is on its way.
        parting: while draining, for one more request of a client that waits with none: it may be on its way already.
    """

    line: int = 8 * 1024
    head: int = 32 * 1024
    lines: int = 100
    head_time: float = 10.0
    body_grace: float = 5.0
    body_rate: float = 240.0
    body_rest: float = 30.0
    body_time: float = 60.0
    body_high: int = 256 * 1024
    ahead: int = 64 * 1024
    idle: float = 75.0
    connections: int = 2048
    per_address: int = 64
    write_high: int = 256 * 1024
    blocked: float = 60.0
    buffered: int = 128 * 2**20
    linger: float = 2.0
    wasted: int = 32 * 2**20  # as much as the largest JSON body
    hurry: float = 1.0
    parting: float = 0.25
