"""Which host most likely still holds the beginning of a prompt, and at which host a conversation is at home.

The rule: both are memories of where requests went, bounded, and never more than a hint: a host that has forgotten a
prompt reads it again, and nothing is wrong but the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

Mark = tuple[int, int]
"""A place in a prompt: a hash of everything before it, and how many tokens that is."""

Prefix = tuple[Mark, ...]
"""Marks of one prompt from its beginning to its end; see :mod:`localmodels.fleet.prefix`."""

# Marks kept for one host and for all of them. A conversation has a dozen or two, so that the first is about a hundred
# conversations, what llama.cpp keeps in 8 GiB beside its slots; the second, at some 200 bytes each, is 50 MB.
MOST_AT_HOST = 2048
MOST = 262_144
# Conversations whose host is remembered, at some 200 bytes each.
MOST_SESSIONS = 65_536


class Affinity:
    """Who was sent which prompts. Of every host the marks that were not used for longest go first.

    Args:
        most: marks of all hosts together.
        most_at_host: marks of one host.
    """

    def __init__(self, most: int = MOST, most_at_host: int = MOST_AT_HOST) -> None:
        self._most = most
        self._most_at_host = most_at_host
        # Who has a mark is a set, kept as the bits of a number: a set of a thousand hosts takes 160 bytes, and joining
        # two is one step.
        self._hosts_of: dict[int, int] = {}
        self._marks_of: dict[str, OrderedDict[int, None]] = {}
        self._bits: dict[str, int] = {}
        self._at: dict[int, str] = {}
        self._names: dict[int, dict[str, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._marks_of.values()))

    def remember(self, prefix: Prefix, host: str) -> None:
        """A prompt goes to the host of this id."""
        if not prefix:
            return
        bit, kept = self._known(host)
        hosts_of = self._hosts_of
        # From the end, so that what is dropped first is the end of a prompt and not the beginning that others share.
        for mark, _ in reversed(prefix):
            if mark in kept:
                kept.move_to_end(mark)
            else:
                kept[mark] = None
                hosts_of[mark] = hosts_of.get(mark, 0) | bit
        self._bound(kept, bit)

    def owners(self, prefix: Prefix) -> dict[str, int]:
        """Tokens of this prompt that each host most likely holds, by its id; without those that hold none."""
        found: dict[str, int] = {}
        hosts_of = self._hosts_of.get
        # Who holds a mark holds those before it as well: so who has the first is all whom there are to find.
        left = hosts_of(prefix[0][0], 0) if prefix else 0
        for mark, tokens in reversed(prefix):
            if (held := hosts_of(mark)) and (new := held & left):
                found.update(dict.fromkeys(self._named(new), tokens))
                left ^= new
            if not left:
                break
        return found

    def forget(self, host: str) -> None:
        """Nothing is held by the host of this id any more."""
        bit = self._bits.pop(host, 0)
        self._at.pop(bit, None)
        for mark in self._marks_of.pop(host, ()):
            self._drop(mark, bit)
        self._names.clear()

    def _known(self, host: str) -> tuple[int, OrderedDict[int, None]]:
        """Its bit, and its marks from the one that was not used for longest."""
        if host not in self._bits:
            taken = sum(self._bits.values())
            self._bits[host] = bit = ~taken & (taken + 1)  # the lowest that nobody has
            self._at[bit] = host
            self._marks_of[host] = OrderedDict()
        return self._bits[host], self._marks_of[host]

    def _bound(self, kept: OrderedDict[int, None], bit: int) -> None:
        most = max(1, min(self._most_at_host, self._most // len(self._bits)))
        while len(kept) > most:
            mark, _ = kept.popitem(last=False)
            self._drop(mark, bit)

    def _drop(self, mark: int, bit: int) -> None:
        rest = self._hosts_of[mark] & ~bit
        if rest:
            self._hosts_of[mark] = rest
        else:
            del self._hosts_of[mark]

    def _named(self, bits: int) -> dict[str, None]:
        """The hosts of these bits. The same sets come again and again, so a few hundred of them are kept.

        They are keys, since a dict of the same keys is made of a dict in a third of the time.
        """
        names = self._names.get(bits)
        if names is None:
            if len(self._names) >= 256:
                self._names.clear()
            names = self._names[bits] = dict.fromkeys(self._at[bit] for bit in _single(bits))
        return names


def _single(bits: int) -> Iterator[int]:
    """Each of them, alone: a few of a thousand are found without looking at the others."""
    while bits:
        yield (bit := bits & -bits)
        bits ^= bit


class Sessions:
    """At which host each caller's conversations are at home; those that were not asked for longest are forgotten.

    A conversation is at home where it was answered last: there is the cache that has all of it.

    Args:
        most: conversations that are remembered.
    """

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        # By hash, since names are as long as callers please. Two that meet would share a host, and nothing else.
        self._homes: OrderedDict[int, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._homes)

    def home(self, caller: str, session: str) -> str:
        """The id of its host; empty where it has none."""
        key = hash((caller, session))
        host = self._homes.get(key, "")
        if host:
            self._homes.move_to_end(key)
        return host

    def settle(self, caller: str, session: str, host: str) -> None:
        """It was answered by the host of this id."""
        key = hash((caller, session))
        self._homes[key] = host
        self._homes.move_to_end(key)
        if len(self._homes) > self._most:
            self._homes.popitem(last=False)
