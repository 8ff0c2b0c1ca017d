"""Tries a short request again, as long as that may help.

The rule is that of ``parts``: the same waits, the same number of tries, and the same errors that pass; and after one
place the next. It has an end in time besides.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from localmodels.core.errors import LocalModelsError
from localmodels.registry.addresses import Place
from localmodels.registry.pace import Pace
from localmodels.registry.verdicts import passes

T = TypeVar("T")


async def persevere(work: Callable[[], Awaitable[T]], pace: Pace, chance: random.Random) -> T:
    """What the work gives in the end.

    Raises:
        LocalModelsError: the last error, when it does not pass, was the last that is put up with, or asks for more
            patience than there is.
    """
    tries = 0
    clock = asyncio.get_running_loop().time
    until = clock() + pace.patience
    while True:
        try:
            return await work()
        except LocalModelsError as error:
            tries += 1
            wait = pace.wait_after(error, tries, chance)
            if not passes(error) or tries >= pace.tries or clock() + wait > until:
                raise
            await asyncio.sleep(wait)


async def first_of(
    places: Sequence[Place], ask: Callable[[Place], Awaitable[T]], pace: Pace, chance: random.Random
) -> tuple[T, int]:
    """What the first place gives that has it, and that place's number. All are asked before one is asked again.

    Raises:
        LocalModelsError: no place gives it. The error is the last place's, which is the registry itself, and whether
            all are asked again is its error's business too: mirrors only stand in for it.
    """

    async def once() -> tuple[T, int]:
        for number, place in enumerate(places[:-1]):
            with suppress(LocalModelsError):
                return await ask(place), number
        return await ask(places[-1]), len(places) - 1

    return await persevere(once, pace, chance)
