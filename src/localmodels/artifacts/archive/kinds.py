"""What may be a part of a model: by its name, and by its first bytes. Pure.

The rule: a name is a promise and the content must keep it. Weights are safetensors or GGUF, everything else is JSON or
text; whatever can run when it is read (pickles, programs, code) refuses the archive, under whatever name it comes. What
a trainer leaves beside the model is passed over unread, since nobody is to blame for a file that Trainer wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from localmodels.artifacts.archive.names import Parts, shown
from localmodels.artifacts.convert.names import LEFTOVERS, PICKLES
from localmodels.artifacts.convert.safetensors import LONGEST_HEAD, disguise
from localmodels.core.errors import InvalidRequest, Unsupported

BEGINNING = 512  # bytes that are looked at; tar's magic lies furthest back, at 257

_SAFETENSORS = "save the model as safetensors (save_pretrained does, without further arguments), and leave this out"
_NO_CODE = "models come without code of their own (trust_remote_code), so leave it out"
_UNPACKED = "archives in archives are not unpacked: put the files themselves into one"

_PICKLES = PICKLES | {".dill", ".hdf5", ".keras", ".nemo", ".p", ".pt2", ".pyt", ".torch"}
_PROGRAMS = frozenset({".a", ".app", ".bash", ".bat", ".c", ".class", ".cmd", ".com", ".command", ".cpp", ".cu", ".dll",
                      ".dylib", ".egg", ".exe", ".jar", ".js", ".lua", ".msi", ".o", ".php", ".pl", ".ps1", ".py",
                      ".pyc", ".pyd", ".pyi", ".pyo", ".pyw", ".pyx", ".rb", ".scr", ".sh", ".so", ".vbs", ".wasm",
                      ".whl", ".zsh"})  # fmt: skip
_ARCHIVES = frozenset({".7z", ".br", ".bz2", ".gz", ".lz4", ".lzma", ".rar", ".tar", ".tbz2", ".tgz", ".txz", ".tzst",
                      ".xz", ".zip", ".zst"})  # fmt: skip

_MAC = "what macOS and Windows add"
_TRAINER = "what a trainer leaves, which answers need nothing of"
_HIDDEN = "hidden folders"
_USELESS = "nothing of a model"
_CHECKPOINT = "an earlier state of the training"

_NOISE = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_LEFTOVER_PICKLE = re.compile(rf"({'|'.join(LEFTOVERS)}|random_states)[\w.-]*\.(bin|pt|pth|pkl)")
_LEFTOVERS = re.compile(
    r"trainer_state\.json|trainer_log\.jsonl|(all|train|eval)_results\.json|events\.out\.tfevents\..*|zero_to_fp32\.py"
)
_LEFTOVER_FOLDERS = re.compile(r"global_step\d+|runs|wandb")  # of DeepSpeed, TensorBoard and Weights & Biases
_CHECKPOINT_FOLDER = re.compile(r"checkpoint-\d+")

_TEXTS = frozenset({"LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"})


class Fate(Struct, frozen=True):
    """What becomes of an entry because of its name.

    Attributes:
        why: it is passed over: as what; empty if it comes out.
        unread: what is in it does not matter.
    """

    why: str = ""
    unread: bool = False

    @property
    def taken(self) -> bool:
        """It comes out."""
        return not self.why


def fate(parts: Parts) -> Fate:
    """What becomes of a file of this name, wherever its folder lies.

    Raises:
        Unsupported: its name promises what is never taken.
    """
    name, folders = parts[-1], parts[:-1]
    suffix = _suffix(name)
    if "__MACOSX" in folders or name in _NOISE or name.startswith("._"):
        return Fate(_MAC, unread=True)
    if any(folder.startswith(".") for folder in folders):
        return Fate(_HIDDEN, unread=True)
    if (
        any(_LEFTOVER_FOLDERS.fullmatch(folder) for folder in folders)
        or _LEFTOVER_PICKLE.fullmatch(name)
        or _LEFTOVERS.fullmatch(name)
    ):
        return Fate(_TRAINER, unread=True)
    for suffixes, told in _REFUSED:
        if suffix in suffixes:
            raise Unsupported(f"{shown('/'.join(parts))}: {told}")
    return Fate() if suffix in _CHECKS or _is_text(name) else Fate(_USELESS)


_REFUSED = (
    (_PICKLES, f"such files can run a program when they are read, so they are not taken; {_SAFETENSORS}"),
    (_PROGRAMS, f"this is code; {_NO_CODE}"),
    (_ARCHIVES, f"this is an archive; {_UNPACKED}"),
)


def is_noise(parts: Parts) -> bool:
    """Did a file manager add this file? Such do not count where the model's own folder is looked for."""
    return parts[0] == "__MACOSX" or parts[-1] in _NOISE or parts[-1].startswith("._")


def passed_over_inside(parts: Parts) -> str:
    """As what a file is passed over because of where it lies in the model's folder; empty if it is not."""
    return _CHECKPOINT if len(parts) > 1 and _CHECKPOINT_FOLDER.fullmatch(parts[0]) else ""


def _suffix(name: str) -> str:
    """With the dot, in lower case: ``.json``."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _is_text(name: str) -> bool:
    return name.partition(".")[0].upper() in _TEXTS


# By content

_MACH_O = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe",
           b"\xbe\xba\xfe\xca")  # fmt: skip
_PROGRAM = f"this is a program; {_NO_CODE}"
_SCRIPT = f"this is a script; {_NO_CODE}"
_PACKED = f"this is an archive; {_UNPACKED}"
_PICKLE = f"this is a pickle, which runs a program when it is read; {_SAFETENSORS}"
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
    return f"this is {what}" if ";" in what else f"this is {what}; {_SAFETENSORS}"


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
    base = name.rpartition("/")[2]
    suffix = _suffix(base)
    check = _CHECKS.get(suffix)
    if suffix == ".safetensors" and not _safetensors(beginning, size):
        return  # its first bytes are a number, which may look like anything
    told = dangerous(beginning)
    if told:
        raise Unsupported(f"{shown(name)}: {told}")
    wrong = check(beginning, size) if check else _text(beginning, size) if _is_text(base) else ""
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


_CHECKS: Mapping[str, Callable[[bytes, int], str]] = {
    ".safetensors": _safetensors,
    ".gguf": _gguf,
    ".json": _json,
    ".model": _vocabulary,
    ".txt": _text,
    ".jinja": _text,
    ".md": _text,
}
