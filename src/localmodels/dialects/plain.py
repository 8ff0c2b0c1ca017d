"""The dialect of the paths that are nobody else's: JSON objects, and errors as ``{"detail": "…"}`` (seed 003)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from localmodels.core.errors import LocalModelsError
from localmodels.dialects.allowances import openai_level
from localmodels.dialects.failures import sayable

_ENCODER = msgspec.json.Encoder()


class Detail(Struct, frozen=True):
    """An error."""

    detail: str


class Plain:
    """Only errors: each plain route writes its own small object."""

    name: str = "plain"
    title: str = "Others"
    roots: tuple[str, ...] = ()
    failure: type[Struct] = Detail

    write_level = staticmethod(openai_level)

    def write_error(self, error: LocalModelsError) -> bytes:
        """``{"detail": "…"}``."""
        return _ENCODER.encode(Detail(sayable(error.message)))

    @staticmethod
    def status(error: LocalModelsError) -> int:
        """The error's own."""
        return error.status
