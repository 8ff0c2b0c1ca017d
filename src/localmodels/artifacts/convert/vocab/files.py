"""What is asked of the folder that a tokenizer lies in, and how strangers' JSON becomes values.

The rule: an error names the file and the field, and says what would be right there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from localmodels.core.errors import ModelDamaged, Unsupported

T = TypeVar("T")

MOST_VALUES = 2**21  # by their commas; Gemma 3 has 1.3 million. Each takes 60 bytes and more of memory, whatever it is
_QUOTED = 60  # characters of a stranger's text that an error repeats


class Files(Protocol):
    """The files of a model, by name."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def has(self, name: str) -> bool: ...

    def read_bytes(self, name: str) -> bytes: ...

    def read_text(self, name: str) -> str: ...

    def read_object(self, name: str) -> dict[str, Any]: ...


def decoded(files: Files, name: str, decoder: msgspec.json.Decoder[T]) -> T:
    """A file of known form.

    Raises:
        ModelDamaged: it is missing, not JSON, nested too deep, or a field is not what it should be.
        Unsupported: it takes more memory than there is.
    """
    raw = files.read_bytes(name)
    values = raw.count(b",")
    if values > MOST_VALUES:
        raise ModelDamaged(f"{name}: {values} values, at most {MOST_VALUES} are possible")
    try:
        return decoder.decode(raw)
    except RecursionError as error:
        raise ModelDamaged(f"{name}: nested too deep") from error
    except MemoryError as error:
        raise Unsupported(f"{name}: takes more memory to read than a conversion may have") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelDamaged(f"{name}: {error}") from error


def text_of(fields: Mapping[str, Any], key: str, where: str) -> str:
    """A field that must be a text if it is there; empty if it is not.

    Raises:
        ModelDamaged: it is something else.
    """
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ModelDamaged(f"{where}: '{key}' must be a text, not {value!r:.{_QUOTED}}")
    return value


def flag_of(fields: Mapping[str, Any], key: str, where: str, *, default: bool) -> bool:
    """A field that must be true or false if it is there.

    Raises:
        ModelDamaged: it is something else.
    """
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ModelDamaged(f"{where}: '{key}' must be true or false, not {value!r:.{_QUOTED}}")
    return value
