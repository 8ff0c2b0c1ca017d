"""Text that must not be seen: passwords, tokens, headers made of them.

The rule: a secret comes out by :meth:`Secret.reveal` and in no other way, so that no log, error, assertion or pickle
shows it by accident (threat V-36).
"""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """A text that prints as ``***``. Two are equal when their texts are, compared in constant time."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def out_of(self, text: str) -> str:
        """Somebody else's text, who may have said the secret again: with three stars for it."""
        return text.replace(self._text, "***") if self._text else text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")
