"""What may be a part of a model: by its first bytes. Pure; :mod:`localmodels.artifacts.model_files` says it by names.

The rule: a name is a promise and the content must keep it. Weights are safetensors or GGUF, everything else is JSON or
text; whatever can run when it is read (pickles, programs, code) refuses the archive, under whatever name it comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from localmodels.artifacts.convert.safetensors import LONGEST_HEAD, disguise
from localmodels.artifacts.file_names import shown
from localmodels.artifacts.model_files import AS_SAFETENSORS, NO_CODE, UNPACKED, Content, content_of
from localmodels.core.errors import InvalidRequest, Unsupported

BEGINNING = 512  # bytes that are looked at; tar's magic lies furthest back, at 257

_MACH_O = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe",
           b"\xbe\xba\xfe\xca")  # fmt: skip
_PROGRAM = f"this is a program; {NO_CODE}"
_SCRIPT = f"this is a script; {NO_CODE}"
_PACKED = f"this is an archive; {UNPACKED}"
_PICKLE = f"this is a pickle, which runs a program when it is read; {AS_SAFETENSORS}"
_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", _PROGRAM),
    *((magic, _PROGRAM) for magic in _MACH_O),
    (b"MZ", _PROGRAM),
    (b"\0asm", _PROGRAM),
    (b"#!", _SCRIPT),
    (b"\x1f\x8b", _PACKED),
    (b"\x28\xb5\x2f\xfd", _PACKED),
    (b"\xfd7zXZ\0", _PACKED),
    (b"BZh", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", _PACKED),
    (b"Rar!\x1a\x07", _PACKED),
    (b"PK\x05\x06", _PACKED),
    (b"\x04\x22\x4d\x18", _PACKED),  # lz4
    *((b"\x80" + bytes([protocol]), _PICKLE) for protocol in range(16)),
    *((b"x" + bytes([level]), _PACKED) for level in (0x01, 0x9C, 0xDA)),  # zlib, as joblib packs pickles
)
# Pickles of protocols 0 and 1 are text, or nearly: a global name and what is called, or an empty collection kept in p0.
_OLD_PICKLE = re.compile(
    rb"\(?c[A-Za-z_][\w.]*\r?\n[A-Za-z_][\w.]*\r?\n[\](}lqpRVXUSN)]|[(\]}]?[dl(\]}]p\d+\r?\n|[\]}]q[\0-\x10]|\(i[A-Za-z_][\w.]*\n"
)
_TAR_MAGIC = slice(257, 262)
_CONTROLS = bytes(range(9)) + bytes(range(14, 27)) + bytes(range(28, 32))  # in no text; 27 colours a terminal's


def dangerous(beginning: bytes) -> str:
    """Why a file that begins so is taken under no name; empty if it may be harmless."""
    told = next((told for magic, told in _MAGICS if beginning.startswith(magic)), "")
    if told:
        return told
    if _OLD_PICKLE.match(beginning):
        return _PICKLE
    if beginning[_TAR_MAGIC] == b"ustar":
        return _PACKED
    what = disguise(beginning)
    if not what or beginning.startswith(b"GGUF"):
        return ""
    return f"this is {what}" if ";" in what else f"this is {what}; {AS_SAFETENSORS}"


def check_content(name: str, beginning: bytes, size: int) -> None:
    """Refuses a file that is another thing than its name says, or that nobody should get under any.

    Args:
        name: of a file that is not passed over unread.
        beginning: its first ``BEGINNING`` bytes, or all.
        size: bytes of the whole file.

    Raises:
        Unsupported: it is something that is not taken.
        InvalidRequest: it is not what its name says.
    """
    content = content_of(name)
    if content == "safetensors" and not _safetensors(beginning, size):
        return  # its first bytes are a number, which may look like anything
    told = dangerous(beginning)
    if told:
        raise Unsupported(f"{shown(name)}: {told}")
    wrong = _CHECKS[content](beginning, size) if content else ""
    if wrong:
        raise InvalidRequest(f"{shown(name)}: {wrong}")


def _safetensors(beginning: bytes, size: int) -> str:
    length = int.from_bytes(beginning[:8], "little")
    if len(beginning) > 9 and length <= min(size - 8, LONGEST_HEAD) and beginning[8:9] == b"{":
        return ""
    return "not a safetensors file: it does not begin with the length of a JSON head, and the head; save it anew"


def _gguf(beginning: bytes, _size: int) -> str:
    return "" if beginning.startswith(b"GGUF") else "not a GGUF file: it does not begin with GGUF; convert it anew"


def _json(beginning: bytes, size: int) -> str:
    if beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}:
        return _text(beginning, size)
    return "not JSON: it does not begin with { or [; save it anew"


def _text(beginning: bytes, _size: int) -> str:
    found = len(beginning) - len(beginning.translate(None, _CONTROLS))
    return "not a text in UTF-8: it has control characters; save it anew" if found else ""


def _vocabulary(beginning: bytes, size: int) -> str:
    """SentencePiece's message begins with its first piece (field 1, a submessage); tiktoken's files are text."""
    if beginning.startswith(b"\x0a"):
        return ""
    wrong = _text(beginning, size) if beginning else "it is empty"
    return wrong and "not a vocabulary of SentencePiece or tiktoken; take the file from the model that was trained"


_CHECKS: Mapping[Content, Callable[[bytes, int], str]] = {
    "safetensors": _safetensors,
    "gguf": _gguf,
    "json": _json,
    "vocabulary": _vocabulary,
    "text": _text,
}
