"""Messages as one writes them: a word for who speaks, then what is said."""

from __future__ import annotations

from localmodels.core.chat import Image, Message, Text


def user(text: str, *images: bytes) -> Message:
    """What a person says, with pictures as the bytes of their files."""
    return Message("user", (Text(text), *(Image(data) for data in images)))


def system(text: str) -> Message:
    """What the model is told before the conversation."""
    return Message("system", (Text(text),))


def assistant(text: str) -> Message:
    """What the model answered."""
    return Message("assistant", (Text(text),))
