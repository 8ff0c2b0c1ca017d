"""Answers on their way through in which the model has the name that it was asked by, where its server knows another.

The one rule: every byte but those of the name stays as it came. What a server says of itself, another name than the one
that it was asked by, stays as well: it may tell which version of a model has answered.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

_KEY = b'"model"'
_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


class Renaming(Struct, frozen=True):
    """What a model is called in an answer.

    Attributes:
        there: by its server, which was asked by this.
        here: by whoever asked us.
        fields: the field as servers write it, with a blank or without, and the same with the other name.
    """

    there: str
    here: str
    fields: tuple[tuple[bytes, bytes], ...]

    def of(self, frame: bytes, message: bytes) -> bytes:
        """A frame in which the model has its server's name, with the other one.

        Args:
            frame: as it came.
            message: what it says; a JSON object that names the model, itself or what it calls ``message``.
        """
        if frame.count(_KEY) == 1:  # else a text, or somebody's arguments, have such a field too
            for there, here in self.fields:
                if (named := frame.replace(there, here)) != frame:
                    return named
        return frame.replace(message, self._written(message))

    def _written(self, message: bytes) -> bytes:
        fields = _FIELDS.decode(message)
        if "model" in fields:
            fields["model"] = msgspec.Raw(_ENCODER.encode(self.here))
        else:
            fields["message"] = msgspec.Raw(self._written(bytes(fields["message"])))
        return _ENCODER.encode(fields)


def renaming(there: str, here: str) -> Renaming | None:
    """How a model's name is another here; None where it is not."""
    if there == here:
        return None
    told, wanted = _ENCODER.encode(there), _ENCODER.encode(here)
    return Renaming(there, here, tuple((key + told, key + wanted) for key in (_KEY + b":", _KEY + b": ")))
