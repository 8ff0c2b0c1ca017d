"""What this package knows of the disk: a few small protocols.

The rule: hashing, durability and names are the disk's business. A registry hands over bytes with their place and is
told in the end whether they are what their digest says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from localmodels.core.catalog import Blob
from localmodels.core.spans import Span


class Sink(Protocol):
    """Where one blob is gathered.

    Calls of ``write`` and ``keep`` may overlap, each with bytes of its own, and are never cancelled in between; nothing
    else is called at the same time. Each byte is written once and then kept, unless a run breaks off before that.
    """

    @property
    def have(self) -> Sequence[Span]:
        """What was kept, ascending and disjoint, as it stands when the run begins."""
        ...

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Takes some bytes, which do not change until this returns."""
        ...

    async def keep(self, start: int, stop: int) -> None:
        """All of these were written: from now on they need never be fetched again, also after a restart.

        Called when an answer ends, and for every part's length of one that brings more.
        """
        ...

    async def finish(self) -> bool:
        """Ends the writing, of every byte.

        True: they have the digest and are in their place, durably. False: they have not, and were thrown away; ``have``
        is empty again.
        """
        ...

    async def close(self) -> None:
        """Ends in any case, finished or not; what was kept stays for the next time."""
        ...


class Sinks(Protocol):
    """Opens sinks."""

    async def open(self, blob: Blob) -> Sink | None:
        """A sink for this blob; None when it is in its place already."""
        ...


class Source(Protocol):
    """A blob that is read."""

    async def read(self, offset: int, size: int) -> bytes:
        """So many bytes from there; fewer only at the end."""
        ...

    async def close(self) -> None: ...


class Sources(Protocol):
    """Opens sources."""

    async def open(self, blob: Blob) -> Source:
        """Reads this blob.

        Raises:
            LocalModelsError: it is not here, or has another size.
        """
        ...
