"""What was read of files, remembered: headers of models, and whatever is made of them.

To read a header is to walk the whole vocabulary, a tenth of a second for the largest. The rule: of each file one thing
is remembered, by what the file was when it was read. A file that was replaced is read again, and what was remembered of
it goes; so does, where somebody says what there is, what is there no more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Read = Callable[[Path], Header]


class Latest(Generic[K, V]):
    """At most ``most`` values, one a key; for several threads. What cannot be made is not remembered."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._kept: OrderedDict[K, tuple[Any, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, key: K, stamp: object, make: Callable[[], V]) -> V:
        """The value of a key as of this stamp: the remembered one, or one that is made now."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == stamp:
                self._kept.move_to_end(key)
                return kept[1]
        value = make()
        with self._lock:
            self._kept[key] = stamp, value
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value

    def forget(self, key: K) -> None:
        """Forgets one, if it is there."""
        with self._lock:
            self._kept.pop(key, None)

    def keep(self, keys: Collection[K]) -> None:
        """Forgets all but these."""
        with self._lock:
            for key in self._kept.keys() - frozenset(keys):
                del self._kept[key]


class Headers:
    """At most ``capacity`` headers; of a file that cannot be read none, so that it heals when the file does."""

    def __init__(self, *, capacity: int = 512, read: Read = read_header) -> None:
        self._read = read
        self._kept: Latest[str, Header] = Latest(capacity)

    def of(self, path: str, mtime_ns: int, size: int) -> Header:
        """The header of the file at ``path``, which was last changed at ``mtime_ns`` and is ``size`` bytes long.

        ``mtime_ns`` may be any number that is another when the file is.

        Raises:
            ModelDamaged: it is not a sound GGUF file.
        """
        return self._kept.of(path, (mtime_ns, size), lambda: self._read(Path(path)))
