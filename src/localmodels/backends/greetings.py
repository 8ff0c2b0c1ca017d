"""Who answers at an address that nobody has described: is it Ollama itself?

The rule: only what says so in both places where Ollama says it is taken for one.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Struct

from localmodels.backends.http import Http
from localmodels.backends.round_trip import Patience
from localmodels.backends.tcp import Tcp
from localmodels.core.address import Address
from localmodels.core.errors import LocalModelsError
from localmodels.dialects import failures

# What Ollama answers at its root, to whoever asks.
GREETING = b"Ollama is running"
MOST = 4_096  # bytes of either answer
PATIENCE = 2.0  # seconds for both; it is on this machine


class _Version(Struct):
    version: str


async def is_ollama(address: Address, *, patience: float = PATIENCE) -> bool:
    """Does Ollama itself answer there? Another LocalModels greets otherwise unless it is asked in plain text."""
    carrier = Tcp(f"http://{address}", patience=Patience(connect=patience, first_byte=patience, idle=patience))
    http = Http(carrier, failures.read_error)
    try:
        async with asyncio.timeout(patience):
            greeting = await http.get("/", most=MOST)
            told = msgspec.json.decode(await http.get("/api/version", most=MOST), type=_Version)
    except (LocalModelsError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    finally:
        await http.close()
    return greeting.strip() == GREETING and bool(told.version)
