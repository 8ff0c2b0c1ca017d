"""Tries a short request again, as long as that may help.

The rule is that of ``parts``: the same waits, the same number of tries, and the same errors that pass; and after one
place the next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from localmodels.core.errors import LocalModelsError, NotFound
from localmodels.registry.addresses import Place
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


async def first_of(
    places: Sequence[Place], ask: Callable[[Place], Awaitable[T]], pace: Pace, chance: random.Random
) -> tuple[T, int]:
    """What the first place gives that has it, and that place's number. All are asked before one is asked again.

    Raises:
        LocalModelsError: no place gives it. The last place is the registry itself: when that has none, that is the
            error; else the first that is more than not having it.
    """

    async def once() -> tuple[T, int]:
        errors: list[LocalModelsError] = []
        for number, place in enumerate(places):
            try:
                return await ask(place), number
            except LocalModelsError as error:
                errors.append(error)
        if isinstance(errors[-1], NotFound):
            raise errors[-1]
        raise next(error for error in errors if not isinstance(error, NotFound))

    return await persevere(once, pace, chance)
