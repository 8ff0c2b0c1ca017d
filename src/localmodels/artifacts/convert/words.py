"""What a folder says besides weights: how its author draws tokens, and under which licence he gives it away.

The rule: these are wishes and texts, and no reason to refuse a model; what is not sound among them is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from localmodels.artifacts.convert.folder import Folder
from localmodels.core.errors import InvalidValue
from localmodels.core.options import OPTIONS, check

GENERATION = "generation_config.json"
# transformers' names of what it draws by, and ours.
_SAMPLING: Mapping[str, str] = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repeat_penalty",
}
_LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
LONGEST_LICENSE = 2**18  # bytes; the longest in use has 35,000


def read_sampling(folder: Folder) -> dict[str, int | float]:
    """Options as ``generation_config.json`` has them; none where it says that tokens are not drawn at all.

    Raises:
        ModelDamaged: the file is not sound.
    """
    said = folder.read_object(GENERATION)
    if said.get("do_sample") is not True:
        return {}
    found: dict[str, int | float] = {}
    for theirs, ours in _SAMPLING.items():
        if (value := said.get(theirs)) is not None:
            try:
                found[ours] = check(OPTIONS[ours], value, param=theirs)
            except InvalidValue:
                continue
    return found


def read_licenses(folder: Folder) -> tuple[str, ...]:
    """The text of the folder's licence, if it brings one.

    Raises:
        ModelDamaged: it cannot be read.
    """
    name = next((name for name in _LICENSES if folder.has(name)), "")
    raw = folder.read_bytes(name) if name else b""
    text = raw.decode(errors="replace").strip()
    return (text,) if text and len(raw) <= LONGEST_LICENSE else ()
