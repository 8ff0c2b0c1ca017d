"""A model that only other servers have, or have in memory, of which it was not said where to do something with it.

The gateway refuses that with the servers that it is on. Here its refusal becomes what the user would type next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from shlex import quote as quoted
from typing import TypeVar

from localmodels.core.errors import LocalModelsError
from localmodels.core.library import EVERY

_THERE = re.compile(r" is (?:in memory )?on the servers? ('[^']+'(?:, '[^']+')*)(?P<more> and \d+ more)?; ")
R = TypeVar("R", bound=LocalModelsError)
_NAME = re.compile(r"'([^']+)'")


def holders_of(refusal: LocalModelsError) -> tuple[str, ...]:
    """The servers that have the model; ``*`` where not all are named; none where that is not what it says.

    >>> holders_of(LocalModelsError("m is on the servers 'a', 'b'; say with `server` where"))
    ('a', 'b')
    """
    found = _THERE.search(refusal.message)
    if found is None:
        return ()
    return (EVERY,) if found["more"] else tuple(_NAME.findall(found[1]))


def bare(name: str, holders: Sequence[str]) -> str:
    """The name of the model on its server: of ``SERVER/MODEL`` what is behind the slash.

    >>> bare("box/m", ("box",)), bare("somebody/m", ("box",))
    ('m', 'somebody/m')
    """
    server, slash, model = name.partition("/")
    return model if slash and list(holders) == [server.lower()] else name


def hinted(refusal: R, verb: str, name: str, *rest: str, alone: bool = False) -> R:
    """The refusal with the command that does it there; as it is where it is about something else.

    Args:
        refusal: the gateway's.
        verb: that was refused.
        name: of the model, as it was said.
        rest: what else the verb was told.
        alone: is it done on one server?
    """
    holders = holders_of(refusal)
    if alone:
        holders = tuple(server for server in holders if server != EVERY)[:1]
    if not holders:
        return refusal
    words = (verb, bare(name, holders), *rest)
    where = " ".join(f"--server {quoted(server)}" for server in holders)
    said = refusal.message.rpartition("; ")[0]
    command = f"`localmodels {' '.join(map(quoted, words))} {where}`"
    return refusal.reworded(f"{said}: {command} does it there", refusal.param)
