"""``python -m localmodels.backends.fake``: a scripted server by hand, for a look with curl or another client."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from localmodels.backends.fake.script import Script
from localmodels.backends.fake.server import ROUTES, FakeServer


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m localmodels.backends.fake", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--script", type=Path, help="JSON file with a script (docs/testing.md); a greeting without it")
    options = parser.parse_args()
    script = msgspec.json.decode(options.script.read_bytes(), type=Script) if options.script else Script()
    try:
        asyncio.run(serve(FakeServer(script, host=options.host, port=options.port)))
    except KeyboardInterrupt:
        return


async def serve(server: FakeServer) -> None:
    """Prints where it is, then answers for ever."""
    async with server:
        print(f"{server.url} answers at {' '.join(sorted(ROUTES))}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
