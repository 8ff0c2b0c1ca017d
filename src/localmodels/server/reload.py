"""The configuration, read again while the server runs (SIGHUP).

The rule: all or nothing. A configuration that cannot be used is refused with one line in the log, and the one that
runs stays. Settings that a running server cannot change (``Setting.hot`` says which can) stay as they are, and are
named.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from localmodels.config import SETTINGS, Config, ConfigError, Settings

log = logging.getLogger(__name__)

Adopt = Callable[[Config], Awaitable[None]]


class Reload:
    """Called at each SIGHUP; reads and adopts one after the other.

    Args:
        load: reads everything again, from wherever it was set.
        config: the one that runs.
        adopt: hands the new one to those who can change.
    """

    def __init__(self, load: Callable[[], Settings], config: Config, adopt: Adopt) -> None:
        self._load = load
        self._config = config
        self._adopt = adopt
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        """Begins; what comes of it is said in the log."""
        task = asyncio.ensure_future(self.again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def again(self) -> None:
        """Reads the configuration and adopts it, or says why not."""
        async with self._turn:
            try:
                settings = await asyncio.to_thread(self._load)
            except ConfigError as error:
                log.error("the configuration stays as it was: %s", error)
                return
            hot, cold = changes(self._config, settings.config)
            await self._adopt(settings.config)
            # What is cold still runs as it did; so a second look compares with it again.
            self._config = settings.config if not cold else _with(self._config, settings.config, hot)
            log.info("the configuration was read again; %s", f"new: {', '.join(hot)}" if hot else "nothing is new")
            if cold:
                log.warning("only a new start changes %s", ", ".join(cold))


def changes(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """Names of the settings that differ: those that a running server can change, and those that it cannot."""
    differ = [name for name in SETTINGS if getattr(old, name) != getattr(new, name)]
    return [name for name in differ if SETTINGS[name].hot], [name for name in differ if not SETTINGS[name].hot]


def _with(old: Config, new: Config, names: list[str]) -> Config:
    values = {name: getattr(new if name in names else old, name) for name in SETTINGS}
    return Config(**values)
