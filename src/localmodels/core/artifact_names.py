"""Names of artifacts, and which name an uploaded file gives its artifact.

The rule: a name is taken as it is or refused, never mended. Whoever uploads ``a b.zip`` must know what to ask for.
"""

from __future__ import annotations

import re

from localmodels.core.errors import InvalidValue, UnsupportedMedia

FIELD = "Model"
"""The field of a form that brings the file (seed 001)."""

GGUF = ".gguf"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
_LONGEST_FIRST = sorted((*ARCHIVES, GGUF), key=len, reverse=True)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHOWN = 140


def checked_name(name: str, param: str = "model") -> str:
    """The name itself, if it can be an artifact's.

    Args:
        name: as somebody gave it.
        param: the field that it came in.

    Raises:
        InvalidValue: it cannot; says what can.
    """
    if _NAME.fullmatch(name):
        return name
    raise InvalidValue(
        f"{name[:_SHOWN]!r} cannot be the name of an artifact: 1 to 128 letters, digits, '.', '_' and '-' can, the "
        "first a letter or a digit",
        param=param,
    )


def name_of(filename: str) -> str:
    """The name of the artifact that an uploaded file becomes: the file's, without what says how it is packed.

    Raises:
        UnsupportedMedia: the file's name promises nothing that can be an artifact.
        InvalidValue: what is left cannot be a name.
    """
    suffix = next((one for one in _LONGEST_FIRST if filename.lower().endswith(one)), "")
    if not suffix:
        known = ", ".join(ARCHIVES)
        raise UnsupportedMedia(
            f"{filename[-_SHOWN:]!r}: a file in one of {known} or a single {GGUF} is expected", param=FIELD
        )
    return checked_name(filename[: -len(suffix)], FIELD)
