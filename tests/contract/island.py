"""A network with nobody else in it, where every address there is leads to us and every connection is seen.

A thread enters a network namespace of its own, in which all addresses are on the loopback interface. So a connection
to any of them could be made, to a cloud's metadata service as well, and would end at a canary; names are given by a
name server of the test's own. The one rule: what happened is what went over the wire. A packet socket sees every SYN to
every port, whether somebody listens there or not, and every byte that was sent.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar, cast

T = TypeVar("T")
Endpoint = tuple[str, int]
Answer = Callable[[bytes], bytes]

PATIENCE = 60.0  # seconds; only what hangs ever sees it
# Where a canary listens, at every address: registries, model servers, and what names without a port mean.
PORTS = (80, 443, 5000, 8000, 11434)
WELCOME = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET in sched.h
_EVERYTHING = 3  # ETH_P_ALL in if_ether.h
_OUTGOING = 4  # PACKET_OUTGOING in if_packet.h: what loops back is seen twice
_PACKETS, _STATISTICS = 263, 6  # SOL_PACKET and PACKET_STATISTICS
_TCP = 6
_SYN, _ACK = 0x02, 0x10
_TLS = b"\x16"  # the first byte of a greeting
_DNS = 53
_PROBE = "probe.island.example"


class NoIsland(Exception):
    """This machine, or this user, can have none; says why."""


class Island:
    """``with island() as one: one.run(coroutine)``.

    Attributes:
        homes: who is at which address and port, beside the canary; they answer a request's bytes.
        names: the addresses of each name, the next answer at each question, the last one for ever.
        asked: the names that were asked for.

    Args:
        ports: where the canary listens.
    """

    def __init__(self, ports: Sequence[int] = PORTS) -> None:
        self.homes: dict[Endpoint, Answer] = {}
        self.names: dict[str, list[Sequence[str]]] = {}
        self.asked: list[str] = []
        self._ports = ports
        self._loop = asyncio.new_event_loop()
        self._packets: socket.socket | None = None
        self._connects: list[Endpoint] = []
        self._sent: dict[Endpoint, bytearray] = {}
        self._closing: list[Callable[[], object]] = []
        self._connections: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[object, object, T]) -> T:
        """What it gives, on the island."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def call(self, work: Callable[[], T]) -> T:
        """The same for what waits for the disk or for a process; what it starts is on the island, too."""

        async def in_thread() -> T:
            return await asyncio.to_thread(work)

        return self.run(in_thread())

    @contextmanager
    def listening(self, at: Endpoint, answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[None]:
        """Somebody is at this address and port, where no canary is; other addresses refuse at this port."""
        self.homes[at] = answer

        async def begin() -> asyncio.Server:
            return await asyncio.start_server(self._serve, *at, ssl=tls)

        server = self.run(begin())
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(server.close)
            del self.homes[at]

    @contextmanager
    def watched(self, *allowed: Endpoint, secret: bytes = b"") -> Iterator[None]:
        """Nothing is connected to but these, and the secret is seen by these alone."""
        self._look()
        self._connects.clear()
        self._sent.clear()
        yield
        self._look()
        forbidden = [one for one in self._connects if one not in allowed]
        assert not forbidden, f"connected to {forbidden}"
        assert not secret or [to for to, data in self._sent.items() if to not in allowed and secret in data] == []

    def connects(self) -> list[Endpoint]:
        """What was connected to since the watch began."""
        self._look()
        return list(self._connects)

    def sent(self, to: Endpoint) -> bytes:
        """All bytes that were sent there since the watch began."""
        self._look()
        return bytes(self._sent.get(to, b""))

    def live(self, ready: Future[None]) -> None:
        """The life of the thread."""
        try:
            _enter()
            self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_EVERYTHING))
            self._packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**24)
            self._packets.setblocking(False)
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._settle())
        except (OSError, NoIsland) as error:
            ready.set_exception(NoIsland(str(error)))
            return
        ready.set_result(None)
        self._loop.run_forever()
        self._loop.run_until_complete(self._leave())
        self._loop.close()
        self._packets.close()

    def end(self) -> None:
        """Ends the thread's life."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _settle(self) -> None:
        for port in self._ports:
            for host in ("0.0.0.0", "::"):
                self._closing.append((await asyncio.start_server(self._serve, host, port)).close)
        names, _ = await self._loop.create_datagram_endpoint(lambda: _Names(self), ("0.0.0.0", _DNS))
        self._closing.append(names.close)

    async def _leave(self) -> None:
        for close in self._closing:
            close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        here = writer.get_extra_info("sockname")[:2]
        answer: Answer = self.homes.get(here, welcome)
        try:
            with suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
                while True:
                    first = await reader.readexactly(1)
                    if first == _TLS and writer.get_extra_info("ssl_object") is None:
                        break
                    asked = first + await reader.readuntil(b"\r\n\r\n")
                    size = [line[15:] for line in asked.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                    answered = answer(asked + await reader.readexactly(int(size[0]) if size else 0))
                    writer.write(answered)
                    if b"connection: close" in answered.lower():
                        break
        finally:
            self._connections.discard(task)
            writer.close()

    def _look(self) -> None:
        """Reads what has passed; a packet on this interface is there in the moment it is sent."""
        assert self._packets is not None
        with suppress(BlockingIOError):
            while True:
                packet, (_, _, way, *_) = self._packets.recvfrom(2**16)
                if way == _OUTGOING and (found := _segment(packet)):
                    to, flags, data = found
                    if flags & _SYN and not flags & _ACK:
                        self._connects.append(to)
                    self._sent.setdefault(to, bytearray()).extend(data)
        statistics = self._packets.getsockopt(_PACKETS, _STATISTICS, 8)
        assert int.from_bytes(statistics[4:], "little") == 0, "packets were lost to the watch"


class _Names(asyncio.DatagramProtocol):
    """A name server."""

    def __init__(self, island: Island) -> None:
        self._island = island

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
            at += 1 + data[at]
        name, kind = ".".join(labels).lower(), int.from_bytes(data[at + 1 : at + 3], "big")
        question = data[12 : at + 5]
        told = self._told(name, kind)
        code = 0 if name in self._island.names else 3  # NXDOMAIN
        head = data[:2] + (0x8180 | code).to_bytes(2, "big") + b"\0\1" + len(told).to_bytes(2, "big") + bytes(4)
        rows = b"".join(
            b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1" + bytes(4) + len(one).to_bytes(2, "big") + one
            for one in told
        )
        self._transport.sendto(head + question + rows, addr)

    def _told(self, name: str, kind: int) -> list[bytes]:
        answers = self._island.names.get(name)
        if answers is None or kind not in {1, 28}:
            return []
        if kind == 1:  # a resolver asks for both kinds; this is the one that is counted
            self._island.asked.append(name)
        addresses = answers[0]
        if kind == 28 and len(answers) > 1:  # the second question of the two
            answers.pop(0)
        return [ip_address(one).packed for one in addresses if (":" in one) == (kind == 28)]


@contextmanager
def island(ports: Sequence[int] = PORTS) -> Iterator[Island]:
    """One, for as long as it is needed, with a canary at these ports.

    Raises:
        NoIsland: there can be none here.
    """
    one, ready = Island(ports), Future[None]()
    thread = threading.Thread(target=one.live, args=(ready,), name="island")
    thread.start()
    try:
        ready.result(PATIENCE)
    except BaseException:
        thread.join()
        raise
    try:
        one.names[_PROBE] = [["192.0.2.53"]]
        if one.call(_looked_up) != "192.0.2.53":
            raise NoIsland("this machine's names are not those of the servers in its resolv.conf")
        yield one
    finally:
        one.end()
        thread.join()


def _looked_up() -> str:
    try:
        return socket.gethostbyname(_PROBE)
    except OSError as error:
        return str(error)


def _enter() -> None:
    """Leaves the network of everybody else, with this thread and those that it starts."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "unshare") or library.unshare(_NEW_NETWORK):
        raise NoIsland(f"no network of its own: {os.strerror(ctypes.get_errno())}")
    for words in ("link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo"):
        try:
            done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise NoIsland("there is no `ip` (iproute2) to set up a network with") from None
        if done.returncode:
            raise NoIsland(f"ip {words}: {done.stderr.strip()}")


def _segment(packet: bytes) -> tuple[Endpoint, int, bytes] | None:
    """Where a TCP segment goes, its flags and its data; None of all else."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and packet[9] == _TCP:
        start, host = (packet[0] & 15) * 4, str(IPv4Address(packet[16:20]))
        packet = packet[: int.from_bytes(packet[2:4], "big") or len(packet)]
    elif version == 6 and packet[6] == _TCP:
        start, host = 40, str(IPv6Address(packet[24:40]))
    else:
        return None
    port, flags = int.from_bytes(packet[start + 2 : start + 4], "big"), packet[start + 13]
    return (host, port), flags, packet[start + (packet[start + 12] >> 4) * 4 :]


def welcome(request: bytes) -> bytes:
    """What a canary answers: all that it takes to be told more."""
    return WELCOME


def head(status: str, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> bytes:
    """The bytes of an answer."""
    fields = {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body
