"""Archives that nobody should unpack: each bad in one way, made by code, harmless until somebody believes it.

``CASES`` is by what each is; a case makes its bytes, given a path that must never come to be (:mod:`.contents`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.contract.hostile_archives.contents import CONTENTS, pickled
from tests.contract.hostile_archives.making import CONFIG, File, Member, long_name, pax, tar_of, zip_of
from tests.contract.hostile_archives.names import BAD_NAMES, LONG_NAMES, TWINS
from tests.contract.hostile_archives.tars import TARS
from tests.contract.hostile_archives.zips import ZIPS

Make = Callable[[Path], bytes]


def _named() -> dict[str, Make]:
    found: dict[str, Make] = {}
    for what, name in {**BAD_NAMES, **LONG_NAMES}.items():
        found[f"a name in a zip {what}"] = lambda _, name=name: zip_of(File(name="a.json"), File(name=name))  # type: ignore[misc]
    for what, name in BAD_NAMES.items():
        found[f"a name in a tar {what}"] = lambda _, name=name: tar_of(Member(name="a.json"), Member(name=name))  # type: ignore[misc]
    for what, name in LONG_NAMES.items():
        found[f"a name in a tar {what}"] = lambda _, name=name: tar_of(Member(), long_name(name), Member(name="x"))  # type: ignore[misc]
        found[f"a name in pax {what}"] = lambda _, name=name: tar_of(  # type: ignore[misc]
            Member(), pax({"path": name}), Member(name="x")
        )
    for what, twins in TWINS.items():
        found[f"two names in a zip {what}"] = lambda _, both=twins: zip_of(*(File(name=name) for name in both))  # type: ignore[misc]
        found[f"two names in a tar {what}"] = lambda _, both=twins: tar_of(*(Member(name=name) for name in both))  # type: ignore[misc]
    return found


def _alone() -> dict[str, Make]:
    """Uploads that are no archive."""
    return {
        "a file that is empty": lambda _: b"",
        "a file of garbage": lambda _: b"\xaa" + os.urandom(5000),
        "a file of one byte": lambda _: b"P",
        "a file of zeros": lambda _: bytes(5000),
        "a JSON file": lambda _: CONFIG,
        "a pickle": pickled,
        "an ELF file": lambda _: b"\x7fELF" + bytes(5000),
        "a 7z file": lambda _: b"7z\xbc\xaf\x27\x1c" + bytes(5000),
        "an xz file": lambda _: b"\xfd7zXZ\0" + bytes(5000),
        "a bzip2 file": lambda _: b"BZh9" + bytes(5000),
        "a rar file": lambda _: b"Rar!\x1a\x07\x01\0" + bytes(5000),
        "a safetensors file": lambda _: (2).to_bytes(8, "little") + b"{}",
    }


def _blind(make: Callable[[], bytes]) -> Make:
    return lambda _: make()


CASES: dict[str, Make] = {
    **_named(),
    **{what: _blind(make) for what, make in {**ZIPS, **TARS}.items()},
    **CONTENTS,
    **_alone(),
}
