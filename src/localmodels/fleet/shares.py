"""Whose the places at a server are, where several gateways have requests for it. Pure.

The rule: all gateways make the same parts of the same words, and what is made never comes to more than there is. Who
wants little gets it; the others get equal parts of the rest; and what nobody wants is kept for whoever wants it next,
in equal parts, so that a first request need not wait until others have heard of it.
"""

from __future__ import annotations

from collections.abc import Mapping


def parts(most: int, wanted: Mapping[str, int], turn: int = 0) -> dict[str, int]:
    """How many places each gateway has.

    Args:
        most: requests that the server gets at once.
        wanted: those that are there or wait, by gateway; of all gateways.
        turn: whose turn it is to have the places that cannot be parted; with another number it is somebody else's.
    """
    names = sorted(wanted)
    first = turn % len(names) if names else 0
    short = [*names[first:], *names[:first]]
    given = dict.fromkeys(short, 0)
    left = most
    while content := [name for name in short if wanted[name] <= left // len(short)]:
        for name in content:
            given[name] = max(0, wanted[name])
            left -= given[name]
        short = [name for name in short if name not in content]
    last = short or [*given]
    for place, name in enumerate(last):
        given[name] += left // len(last) + (place < left % len(last))
    return given
