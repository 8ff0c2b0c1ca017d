"""Which columns of a table a terminal has room for, and how wide each is: pure arithmetic.

The rule: the same table in the same width is always drawn alike. The first column, a name that is to be copied, is
shown whole; columns that say much are shortened as far as they still say something, and only then do those fall away
that can be spared, in the order in which their verb names them.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

# Spaces between two columns, and where there is no room for that.
APART, CLOSE = 4, 2
# Characters that a shortened column keeps: an address with its port (http://127.0.0.1:11434), or how a sentence begins.
LEAST = 22
# The same where nothing is left that could be spared.
SHORTEST = 8


class Fit(Struct, frozen=True):
    """The columns that are shown, by their places; their widths, and the spaces between them."""

    places: tuple[int, ...]
    widths: tuple[int, ...]
    gap: int


def fitted(titles: Sequence[str], widths: Sequence[int], room: int, spare: Sequence[str]) -> Fit:
    """What is shown.

    Args:
        titles: of the columns.
        widths: that each would take, title and cells; at least one.
        room: characters in a line.
        spare: titles of those that can fall away, the first one first.

    >>> fitted(("NAME", "URL"), (4, 40), 30, ()).widths
    (4, 24)
    """
    places = list(range(len(titles)))
    if _total(widths, APART) <= room:
        return Fit(tuple(places), tuple(widths), APART)
    for title in spare:
        least = [widths[place] if place == 0 else min(widths[place], LEAST) for place in places]
        if _total(least, CLOSE) <= room:
            break
        places = [place for place in places if titles[place] != title]
    shown = _shortened([widths[place] for place in places], room)
    return Fit(tuple(places), tuple(shown), CLOSE)


def _shortened(widths: list[int], room: int) -> list[int]:
    """The widest of them but the first give way; then the first, which goes on in the next line."""
    while (over := _total(widths, CLOSE) - room) > 0:
        widest = max(widths[1:], default=0)
        if widest <= SHORTEST:
            return [max(SHORTEST, widths[0] - over), *widths[1:]]
        widths[widths.index(widest, 1)] -= 1
    return widths


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)
