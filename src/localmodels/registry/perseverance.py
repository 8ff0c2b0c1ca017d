"""Tries a short request again, as long as that may help.

The rule is that of ``parts``: the same waits, the same number of tries, and the same errors that pass.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from localmodels.core.errors import LocalModelsError
from localmodels.registry.pace import Pace
from localmodels.registry.verdicts import passes

T = TypeVar("T")


async def persevere(work: Callable[[], Awaitable[T]], pace: Pace, chance: random.Random) -> T:
    """What the work gives in the end.

    Raises:
        LocalModelsError: the last error, when it does not pass or was the last that is put up with.
    """
    tries = 0
    while True:
        try:
            return await work()
        except LocalModelsError as error:
            tries += 1
            if not passes(error) or tries >= pace.tries:
                raise
            await asyncio.sleep(pace.wait_after(error, tries, chance))
