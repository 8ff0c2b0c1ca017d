"""Reads a whole store as it is: every manifest or what lies in its place, every file among the blobs.

The rule: what cannot be read is told in its place and hides nothing else. A manifest's text is searched for digests
even when it cannot be understood, so that whoever collects blobs knows which ones it may have meant.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator

from msgspec import Struct, structs

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import InvalidValue, ModelDamaged
from localmodels.store.folders import STRAY, Folder
from localmodels.store.layout import MANIFESTS, Layout, digest_of
from localmodels.store.manifests import MANIFEST_BYTES, Manifest, parse_manifest

_DEPTH = 4
_DIGEST = re.compile(rb"sha256[:-]([0-9a-f]{64})", re.IGNORECASE)

_NOT_ITS_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# Ollama's unfinished blobs (server/download.go, manifest/layer.go): parts of a download, and a temporary file.
_OLLAMA_UNFINISHED = re.compile(r"sha256-([0-9a-f]{64}-partial(-[0-9]{1,9})?|[0-9]{1,20})")

# Inode, and when the system last changed anything about it: nobody can set that back.
Seen = tuple[int, int]


class Sheet(Struct, frozen=True):
    """What lies in a manifest's place.

    Attributes:
        where: its path below ``manifests``, part by part.
        name: the model's, where the path is one.
        manifest: None if it cannot be used; ``why`` tells.
        link: it is a link, or no plain file or directory, and was not entered.
        legible: every digest that can be read in it, whatever surrounds it.
        complete: nothing that it names can be missing from ``legible``.
        written: when it was last changed, nanoseconds since 1970; None if that cannot be known.
        seen: tells it from what may come to lie there later.
    """

    where: tuple[str, ...]
    name: ModelName | None = None
    manifest: Manifest | None = None
    why: str = ""
    link: bool = False
    legible: frozenset[Digest] = frozenset()
    complete: bool = False
    written: int | None = None
    seen: Seen | None = None


class Item(Struct, frozen=True):
    """What lies among the blobs.

    Attributes:
        file: its name.
        digest: the blob that it is, if its name is one.
        size: bytes; ``written``: when it was last changed, nanoseconds since 1970.
        plain: a plain file.
        unfinished: one of Ollama's own files that are on their way.
        seen: tells it from what may come to lie there later.
    """

    file: str
    digest: Digest | None
    size: int
    written: int
    plain: bool
    unfinished: bool
    seen: Seen


def sheets(layout: Layout) -> Iterator[Sheet]:
    """Everything below ``manifests``, sorted."""
    with layout.manifests() as manifests:
        yield from _walk(manifests, ())


def items(layout: Layout) -> Iterator[Item]:
    """Everything in ``blobs``, sorted."""
    with layout.blobs() as blobs:
        for file in blobs.names():
            status = blobs.look(file)
            if status is not None:  # it may have gone between the two
                yield Item(
                    file=file,
                    digest=digest_of(file),
                    size=status.st_size,
                    written=status.st_mtime_ns,
                    plain=stat.S_ISREG(status.st_mode),
                    unfinished=_OLLAMA_UNFINISHED.fullmatch(file) is not None,
                    seen=seen_as(status),
                )


def _walk(folder: Folder, above: tuple[str, ...]) -> Iterator[Sheet]:
    for part in folder.names():
        where = (*above, part)
        status = folder.look(part)
        if part.startswith(".") or status is None:
            continue  # no name begins with a dot; what does are the desktop's own files
        if len(where) == _DEPTH and stat.S_ISREG(status.st_mode):
            yield _sheet(folder, where, status)
        elif len(where) < _DEPTH and stat.S_ISDIR(status.st_mode):
            yield from _below(folder, where)
        else:
            yield Sheet(where, why=STRAY, link=True, seen=seen_as(status))


def _below(folder: Folder, where: tuple[str, ...]) -> Iterator[Sheet]:
    try:
        below = folder.below(where[-1])
    except FileNotFoundError:
        return  # its last model was just deleted
    except OSError as error:
        yield Sheet(where, why=_why(error))
        return
    with below:
        yield from _walk(below, where)


def _sheet(folder: Folder, where: tuple[str, ...], status: os.stat_result) -> Sheet:
    try:
        data = folder.read(where[-1], MANIFEST_BYTES)
    except ModelDamaged as error:
        return Sheet(where, why=error.message, seen=seen_as(status))
    except OSError as error:
        return Sheet(where, why=_why(error), seen=seen_as(status))
    if data is None:
        return Sheet(where, why="was removed while it was read", complete=True)
    return structs.replace(read_sheet(where, data), written=status.st_mtime_ns, seen=seen_as(status))


def read_sheet(where: tuple[str, ...], data: bytes) -> Sheet:
    """What the bytes in a manifest's place say."""
    whole = _strings(data)
    legible = frozenset(Digest(found.decode().lower()) for found in _DIGEST.findall(data + b"\n" + (whole or b"")))
    name, why, manifest = _name(where), "", None
    try:
        manifest = parse_manifest(data)
    except ModelDamaged as error:
        why = error.message
    if name is None:
        why = "not a model name"
    elif len(data) > MANIFEST_BYTES:
        why = f"longer than {MANIFEST_BYTES} bytes"
    return Sheet(
        where=where,
        name=name,
        manifest=manifest if not why else None,
        why=why,
        legible=legible,
        complete=whole is not None and len(data) <= MANIFEST_BYTES,
    )


def seen_as(status: os.stat_result) -> Seen:
    """What tells an entry from another one in its place."""
    return status.st_ino, status.st_ctime_ns


def _why(error: OSError) -> str:
    """What is wrong with an entry; what is wrong with this process is no property of the entry, and raised."""
    if error.errno in _NOT_ITS_FAULT:
        raise error
    return STRAY if error.errno in {errno.ELOOP, errno.ENOTDIR} else error.strerror or "cannot be read"


def shown(*where: str) -> str:
    """A path for people to read; a file name that is not UTF-8 must not break whoever writes it down."""
    return "/".join((MANIFESTS, *where)).encode(errors="replace").decode()


def _strings(data: bytes) -> bytes | None:
    """A whole JSON object without its escapes, all of its equal keys kept; None for anything else.

    A whole object names no more than what can be read in it. A torn one may have named anything.
    """
    try:
        value = json.loads(data, object_pairs_hook=_Pairs)
        return json.dumps(value).encode() if isinstance(value, _Pairs) else None
    except (ValueError, RecursionError):
        return None


class _Pairs(list[tuple[str, object]]):
    """An object's keys and values, as they stand there."""


def _name(where: tuple[str, ...]) -> ModelName | None:
    try:
        return ModelName.parse("{}/{}/{}:{}".format(*where))
    except InvalidValue:
        return None
