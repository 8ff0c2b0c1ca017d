"""State that is forgotten: the fake for tests and for tables of routes that nobody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from localmodels.core.access import Key, Use
from localmodels.core.errors import Conflict


class MemoryKeys:
    """Keys; see :class:`localmodels.flows.access.KeyStore`."""

    def __init__(self, *keys: Key) -> None:
        self._keys = {key.id: key for key in keys}
        self._generation = 0

    async def known(self) -> tuple[int, tuple[Key, ...]]:
        """The generation, and all keys of it."""
        return self._generation, tuple(sorted(self._keys.values(), key=lambda key: (key.created_at, key.id)))

    async def add(self, key: Key) -> None:
        """Keeps a new one."""
        if any(other.name == key.name and other.revoked_at is None for other in self._keys.values()):
            raise Conflict(f"there is a key '{key.name}' already; revoke it first or choose another name")
        self._keys[key.id] = key
        self._generation += 1

    async def revoke(self, key_id: str, now: int) -> bool:
        """Makes one open nothing from now on; is there such a key?"""
        key = self._keys.get(key_id)
        if key is not None and key.revoked_at is None:
            self._keys[key_id] = replace(key, revoked_at=now)
            self._generation += 1
        return key is not None

    async def generation(self) -> int:
        """Raised by every change."""
        return self._generation


class MemoryUsage:
    """What was used; see :class:`localmodels.flows.ledger.UsageStore`."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str, str, int], Use] = {}

    async def add(self, uses: Sequence[Use]) -> None:
        """Adds these."""
        for use in uses:
            place = use.key, use.model, use.server, use.hour
            self._uses[place] = self._uses.get(place, Use(*place)).plus(use)

    async def of(self, *, since: int, key: str | None = None) -> tuple[Use, ...]:
        """What was used since this hour, latest first."""
        found = [use for use in self._uses.values() if use.hour >= since and key in {None, use.key}]
        return tuple(sorted(found, key=lambda use: (-use.hour, use.key, use.model, use.server)))

    async def spent(self, since: Mapping[str, int]) -> Mapping[str, int]:
        """Tokens that these keys used since these hours."""
        return {key: sum(use.tokens for use in await self.of(since=hour, key=key)) for key, hour in since.items()}
