"""A body in the smallest chunks costs what its bytes cost: no chunk is paid for again with each later one."""

from __future__ import annotations

import asyncio
import time

from tests.contract.edge import serving
from tests.hostile.framing import echo
from tests.proofs.claims import Claim, timed

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
MOST = 1.0  # seconds of processor time for a mebibyte, one byte a chunk, client and server together


async def proof(size: int = 2**20) -> list[Claim]:
    """One such body, which comes back."""
    async with serving(echo) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        before = time.process_time()
        writer.write(HEAD + b"1\r\na\r\n" * size + b"0\r\n\r\n")
        await reader.readuntil(b"|")
        came = await reader.readexactly(size)
        took = time.process_time() - before
        writer.close()
    return [
        Claim("a body of small chunks comes whole", came == b"a" * size, f"{len(came):,} bytes"),
        timed("and cheaply", took < MOST * size / 2**20, f"{took:.2f} s of processor time for {size:,} chunks"),
    ]
