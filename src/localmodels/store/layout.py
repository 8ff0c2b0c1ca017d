"""Where a store keeps its files: the only place that makes store paths and opens them.

::

    ROOT/                                  may be reached through a symbolic link; nothing below it may
    ├── blobs/
    │   └── sha256-<64 hex digits>         one file a content: weights, templates, parameters, licences, configs
    ├── manifests/
    │   └── HOST/NAMESPACE/NAME/TAG        one JSON file a model name: which blobs it is made of
    ├── quarantine/
    │   └── <time>/blobs…, manifests…      what a repair took out of use, where it lay
    └── .localmodels/                      ours alone; Ollama never looks here
        ├── lock                           held while names change or blobs are collected
        ├── leases/<token>/                what one writer is making: its lock, its claim, its unfinished files
        ├── partials/sha256-<hex>[.parts]  a blob that arrives in parts, and the list of those that did
        ├── verified/sha256-<hex>          which files of this content were hashed, and when
        └── published/<64 hex digits>      which manifests of one set of blobs were published here

The first two are Ollama's own layout, so one store serves both programs. Nothing unfinished ever lies in them: it is
made under ``.localmodels`` and moved in one step. The rule keeps every access inside ROOT (threats V-01, V-02, V-04):
only a parsed :class:`Digest` or :class:`ModelName` becomes part of a path, and each step down is opened relative to the
directory above it, following no link. What breaks the rule is :class:`ModelDamaged`, and reported.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import InvalidValue, ModelDamaged
from localmodels.store import folders
from localmodels.store.folders import Folder

STRAY = folders.STRAY
BLOBS = "blobs"
MANIFESTS = "manifests"
QUARANTINE = "quarantine"
LOCK = "lock"

OWN = ".localmodels"
LEASES = (OWN, "leases")
PARTIALS = (OWN, "partials")
VERIFIED = (OWN, "verified")
PUBLISHED = (OWN, "published")

_BLOB = re.compile(r"sha256-([0-9a-f]{64})")
_TOKEN = re.compile(r"[0-9A-Za-z-]{1,64}")

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK a planted fifo would hang the reader for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME_DEPTH = 4

# What the system says of a link that it was told not to follow is a riddle ("too many levels of symbolic links").
_REASONS = {errno.ENOENT: "missing", errno.ELOOP: STRAY, errno.EMLINK: STRAY, errno.ENOTDIR: STRAY, errno.ENXIO: STRAY}


class Layout:
    """One store on disk. The methods that give a :class:`Folder` are for those who write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, digest: Digest) -> Path:
        """The path of a blob, whether or not it is there."""
        return self.root / BLOBS / blob_name(digest)

    def digest_at(self, path: Path) -> Digest | None:
        """The digest of the blob that lies at a path; None if it is not one of ours."""
        if path.parent != self.root / BLOBS:
            return None
        return Digest.parse(path.name.replace("-", ":", 1))

    def manifest(self, name: ModelName) -> Path:
        """The path of a manifest, whether or not it is there."""
        return self.root.joinpath(MANIFESTS, *name_parts(name))

    def blob_status(self, digests: Iterable[Digest]) -> dict[Digest, os.stat_result]:
        """What the file system says about blobs, their contents unread.

        Raises:
            ModelDamaged: one is missing, or is not a plain file.
        """
        with self._directory((BLOBS,)) as blobs:
            return {digest: _status(blob_name(digest), blobs) for digest in digests}

    def read_blob(self, digest: Digest, limit: int) -> bytes:
        """A whole blob of at most ``limit`` bytes.

        Raises:
            ModelDamaged: it is missing, longer, or not a plain file.
        """
        with self._directory((BLOBS,)) as blobs:
            return _read(blob_name(digest), blobs, limit)[0]

    def read_manifest(self, name: ModelName, limit: int) -> tuple[bytes, os.stat_result]:
        """A whole manifest of at most ``limit`` bytes, and what the file system says about it.

        Raises:
            ModelDamaged: it is missing, longer, or not a plain file.
        """
        *directories, tag = name_parts(name)
        with self._directory((MANIFESTS, *directories)) as directory:
            return _read(tag, directory, limit)

    def has(self, name: ModelName) -> bool:
        """Does something lie in this name's place?

        The spelling must be the one that the directories list: a file system that ignores case would otherwise give
        one file to two names.
        """
        above: tuple[str, ...] = (MANIFESTS,)
        for part in name_parts(name):
            try:
                with self._directory(above) as directory:
                    if part not in _listed(directory):
                        return False
            except ModelDamaged:
                return False
            above = (*above, part)
        return True

    def names(self) -> Iterator[ModelName | tuple[str, str]]:
        """Every name under ``manifests``, sorted; for what lies there and is none, its path and what is wrong."""
        try:
            with self._directory((MANIFESTS,)) as manifests:
                yield from _walk(manifests, ())
        except ModelDamaged as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                yield MANIFESTS, error.message

    def prepare(self) -> None:
        """Makes the directories that every writer needs; all of their entries are on disk when this returns."""
        if not self.root.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            with Folder.at(self.root.resolve().parent) as above:
                above.sync()
        for parts in ((BLOBS,), (MANIFESTS,), LEASES, PARTIALS):
            self._folder(*parts, make=True).close()

    def own(self) -> Folder:
        """The directory that is ours alone."""
        return self._folder(OWN)

    def blobs(self) -> Folder:
        """The directory of the blobs."""
        return self._folder(BLOBS)

    def manifests(self) -> Folder:
        """The directory above all manifests."""
        return self._folder(MANIFESTS)

    def place(self, name: ModelName, *, depth: int = _NAME_DEPTH - 1, make: bool = False) -> Folder:
        """The directory in which a name's manifest lies under its tag; with a smaller ``depth`` one above that."""
        return self._folder(MANIFESTS, *name_parts(name)[:depth], make=make)

    def leases(self) -> Folder:
        """The directory of all leases."""
        return self._folder(*LEASES)

    def lease(self, token: str, *, make: bool = False) -> Folder:
        """The directory of one lease."""
        return self._folder(*LEASES, _checked(token), make=make)

    def partials(self) -> Folder:
        """The directory of the blobs that arrive in parts."""
        return self._folder(*PARTIALS)

    def verified(self, *, make: bool = False) -> Folder:
        """The directory of the seals."""
        return self._memory(VERIFIED[-1], make)

    def published(self, *, make: bool = False) -> Folder:
        """The directory of what is known of manifests that were published."""
        return self._memory(PUBLISHED[-1], make)

    def quarantine(self, stamp: str, *where: str) -> Folder:
        """The directory for what is taken out of use; ``where`` is the path that it had, as :meth:`listed` takes it."""
        return self._folder(QUARANTINE, _checked(stamp), *where, make=True)

    def listed(self, *parts: str) -> Folder:
        """A directory of the store by names that its own directories list; no name of a listing leads out of it."""
        return self._folder(*parts)

    def _memory(self, part: str, make: bool) -> Folder:
        """A directory of things that may be lost; it is made only where there is a directory of ours."""
        with self.own() as own:
            return own.below(part, make=make, lasting=False)

    def _folder(self, *parts: str, make: bool = False) -> Folder:
        folder = Folder.at(self.root)
        for part in parts:
            try:
                below = folder.below(part, make=make)
            finally:
                folder.close()
            folder = below
        return folder

    @contextmanager
    def _directory(self, parts: tuple[str, ...]) -> Iterator[int]:
        """A descriptor of ``ROOT/parts``, reached without following a link below ROOT."""
        descriptor = _open(str(self.root), _DIRECTORY)
        try:
            for part in parts:
                below = _open(part, _DIRECTORY | os.O_NOFOLLOW, descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def blob_name(digest: Digest) -> str:
    """A blob's file name.

    Raises:
        InvalidValue: the value was not made by :meth:`Digest.parse`, and is no digest.
    """
    file = f"sha256-{digest.hex}"
    if not _BLOB.fullmatch(file):
        raise InvalidValue(f"invalid digest {digest.hex[:80]!r}", param="digest")
    return file


def journal_name(digest: Digest) -> str:
    """The file name of the list of parts that have arrived of a blob."""
    return f"{blob_name(digest)}.parts"


def digest_of(file: str) -> Digest | None:
    """The digest that a file name is; None for any other name."""
    found = _BLOB.fullmatch(file)
    return Digest(found[1]) if found else None


def name_parts(name: ModelName) -> tuple[str, str, str, str]:
    """The directories and the file of a name's manifest.

    Raises:
        InvalidValue: the value was not made by :meth:`ModelName.parse`, and is no name.
    """
    parts = name.host, name.namespace, name.name, name.tag
    if ModelName.parse("{}/{}/{}:{}".format(*parts)) != name:
        raise InvalidValue(f"invalid model name {str(name)[:120]!r}", param="model")
    return parts


def _checked(token: str) -> str:
    """A token of ours; anything else would be a mistake in this program."""
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"not a token: {token[:80]!r}")
    return token


def _listed(directory: int) -> set[str]:
    with os.scandir(directory) as listing:
        return {item.name for item in listing}


def _open(path: str, flags: int, above: int | None = None) -> int:
    try:
        return os.open(path, flags, dir_fd=above)
    except OSError as error:
        raise _damage(path, error) from error


def _damage(path: str, error: OSError) -> ModelDamaged:
    """Which file, without its directory, and what the system's reason means here."""
    why = _REASONS.get(error.errno or 0) or error.strerror or "cannot be opened"
    return ModelDamaged(f"{Path(path).name}: {why}")


def _status(file: str, above: int) -> os.stat_result:
    try:
        return _plain(file, os.stat(file, dir_fd=above, follow_symlinks=False))
    except OSError as error:
        raise _damage(file, error) from error


def _plain(file: str, status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise ModelDamaged(f"{file}: not a plain file")
    return status


def _read(file: str, above: int, limit: int) -> tuple[bytes, os.stat_result]:
    descriptor = _open(file, _FILE, above)
    try:
        status = _plain(file, os.fstat(descriptor))
        # A plain file is read in one go; one byte more than the limit shows that there is more.
        data = os.read(descriptor, min(status.st_size, limit) + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ModelDamaged(f"{file}: longer than {limit} bytes")
    return data, status


def _walk(directory: int, above: tuple[str, ...]) -> Iterator[ModelName | tuple[str, str]]:
    with os.scandir(directory) as listing:
        # No name begins with a dot; what does are the desktop's own files (.DS_Store).
        items = sorted((item.name, item.is_dir(follow_symlinks=False)) for item in listing if item.name[0] != ".")
    for item, is_directory in items:
        parts = (*above, item)
        if len(parts) == _NAME_DEPTH:
            yield _name(parts)
        elif is_directory:
            yield from _walk_below(directory, parts)
        else:
            yield _shown(parts), STRAY


def _walk_below(directory: int, parts: tuple[str, ...]) -> Iterator[ModelName | tuple[str, str]]:
    try:
        below = _open(parts[-1], _DIRECTORY | os.O_NOFOLLOW, directory)
    except ModelDamaged as error:
        yield _shown(parts), error.message
        return
    try:
        yield from _walk(below, parts)
    finally:
        os.close(below)


def _name(parts: tuple[str, ...]) -> ModelName | tuple[str, str]:
    host, namespace, name, tag = parts
    try:
        return ModelName.parse(f"{host}/{namespace}/{name}:{tag}")
    except InvalidValue:
        return _shown(parts), "not a model name"


def _shown(parts: tuple[str, ...]) -> str:
    """A path for people to read; a file name that is not UTF-8 must not break whoever writes it down."""
    return "/".join(parts).encode(errors="replace").decode()
