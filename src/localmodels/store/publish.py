"""Gives models their names, gives them other names, and takes names away.

The rule: a name means a whole model or nothing, at every moment and after every crash. A manifest's bytes are kept as
they came, since their digest is the model's; they get their name in one step, once every blob that they name is there,
of the right size and on disk. Deleting takes the name alone; blobs are collected by :mod:`localmodels.store.collect`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import Conflict, ModelDamaged, ModelNotFound
from localmodels.store.folders import Folder, disk_errors
from localmodels.store.layout import Layout, blob_name, name_parts
from localmodels.store.leases import Lease
from localmodels.store.lock import StoreLock
from localmodels.store.manifests import MANIFEST_BYTES, Manifest, parse_manifest
from localmodels.store.published import note_published, require_published

_DEPTH = 4


@disk_errors()
def publish(lease: Lease, name: ModelName, data: bytes) -> Manifest:
    """Makes a name mean the model of this manifest, whatever it meant before.

    Args:
        lease: protects the model's blobs until the lease ends.
        name: of the model.
        data: the manifest, kept byte for byte.

    Raises:
        ModelDamaged: it is no manifest, or a blob of it is missing or has another size; or something else than a file
            lies in a place that is needed.
        Conflict: a model is here whose name differs in case alone.
        DiskFull: there is no room for the manifest.
    """
    name_parts(name)
    if len(data) > MANIFEST_BYTES:
        raise ModelDamaged(f"the manifest is longer than {MANIFEST_BYTES} bytes")
    manifest = parse_manifest(data)
    wanted = sizes(manifest)
    lease.protect(*wanted)
    settle(lease.layout, wanted)
    file = lease.new_file()
    lease.folder.put(file, data)
    try:
        with lease.lock.held():
            note_published(lease.layout, manifest)
            _publish(lease, name, file, wanted)
    except BaseException:
        with suppress(OSError):  # what cannot be removed now goes with the lease
            lease.folder.remove(file)
        raise
    return manifest


@disk_errors()
def copy(lease: Lease, source: ModelName, target: ModelName) -> Manifest:
    """Makes a second name mean what the first does.

    Raises:
        ModelNotFound: there is no model of the first name.
        ModelDamaged: it cannot be used; and as :func:`publish`.
        Conflict: as :func:`publish`.
    """
    return publish(lease, target, hold_manifest(lease, source))


@disk_errors()
def hold_manifest(lease: Lease, name: ModelName) -> bytes:
    """A manifest's bytes, whose blobs stay from now on until the lease ends.

    Raises:
        ModelNotFound: there is none of this name.
        ModelDamaged: it cannot be used, or is not as it was published.
    """
    held = None
    while True:
        data = read_manifest(lease.layout, name)
        if data is None:
            raise ModelNotFound(str(name))
        if data == held:  # it still had its name when its blobs were protected, so none of them was collected before
            return data
        manifest = parse_manifest(data)
        require_published(lease.layout, manifest)
        lease.protect(*sizes(manifest))
        held = data


@disk_errors()
def delete(layout: Layout, lock: StoreLock, name: ModelName) -> bool:
    """Takes a name away, also that of a damaged model; its blobs stay until they are collected.

    Returns: was it there? If not, that is on disk too: an earlier process may have died on its way.

    Raises:
        ModelDamaged: something else than a file lies in a place that is needed.
    """
    parts = name_parts(name)
    layout.prepare()
    with lock.held():
        depth = _depth(layout, name)
        if depth < _DEPTH:
            with layout.place(name, depth=depth) as folder:
                folder.sync()
            return False
        with layout.place(name) as folder:
            folder.status(parts[-1])
            folder.remove(parts[-1])
            folder.sync()
        for above in range(_DEPTH - 2, -1, -1):
            with layout.place(name, depth=above) as folder:
                if not folder.remove_empty(parts[above]):
                    break
                folder.sync()
    return True


@disk_errors()
def read_manifest(layout: Layout, name: ModelName) -> bytes | None:
    """A manifest's bytes; None if there is none of exactly this spelling, or no store yet.

    Raises:
        ModelDamaged: it is too long, or something else than a file lies in a place that is needed.
    """
    try:
        if _depth(layout, name) < _DEPTH:
            return None
        with layout.place(name) as folder:
            data = folder.read(name_parts(name)[-1], MANIFEST_BYTES)
    except FileNotFoundError:  # no store yet, or somebody takes the last name of a directory away in this moment
        return None
    if data is not None and len(data) > MANIFEST_BYTES:
        raise ModelDamaged(f"the manifest is longer than {MANIFEST_BYTES} bytes")
    return data


def sizes(manifest: Manifest) -> dict[Digest, int]:
    """Every blob that a manifest names, and its size.

    Raises:
        ModelDamaged: it gives one blob two sizes.
    """
    result: dict[Digest, int] = {}
    for layer in manifest.blobs:
        if result.setdefault(layer.digest, layer.size) != layer.size:
            raise ModelDamaged(f"the manifest gives {layer.digest} two sizes")
    return result


def settle(layout: Layout, wanted: Iterable[Digest]) -> None:
    """Waits until blobs and their names are on disk. Ours are, and cost nothing; Ollama's may not be."""
    with layout.blobs() as blobs:
        for digest in wanted:
            descriptor = blobs.open(blob_name(digest))
            if descriptor is not None:
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        blobs.sync()


def _publish(lease: Lease, name: ModelName, file: str, wanted: Mapping[Digest, int]) -> None:
    layout, tag = lease.layout, name_parts(name)[-1]
    _require(layout, wanted)
    _refuse_twin(layout, name)
    with layout.place(name, make=True) as folder:
        _require_spelling(layout, name)
        folder.status(tag)
        lease.folder.move(file, folder, tag)
        folder.sync()


def _require(layout: Layout, wanted: Mapping[Digest, int]) -> None:
    with layout.blobs() as blobs:
        for digest, size in wanted.items():
            status = blobs.status(blob_name(digest))
            if status is None:
                raise ModelDamaged(f"{blob_name(digest)}: missing")
            if status.st_size != size:
                raise ModelDamaged(f"{blob_name(digest)}: {status.st_size} bytes long, not {size}")


def _depth(layout: Layout, name: ModelName) -> int:
    """How many of a name's four parts are there, each of exactly this spelling whatever the file system thinks."""
    parts = name_parts(name)
    for depth, part in enumerate(parts):
        with layout.place(name, depth=depth) as folder:
            if part not in folder.names():
                return depth
    return len(parts)


def _refuse_twin(layout: Layout, name: ModelName) -> None:
    """Two names must not share a path where the file system ignores case, today or after a move to another disk."""
    with layout.manifests() as manifests:
        twin = _twin(manifests, name_parts(name))
    if twin is not None and twin != name_parts(name):
        raise Conflict(f"a model with the name {'/'.join(twin)} is here, which differs in case alone", param="model")


def _twin(folder: Folder, parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """What lies at a path that is spelled like this but for case; another spelling before the same one."""
    first, *rest = parts
    alike = sorted((one for one in folder.names() if one.lower() == first.lower()), key=lambda one: one == first)
    for one in alike:
        if not rest:
            return (one,)
        with suppress(NotADirectoryError, FileNotFoundError), folder.below(one) as below:
            found = _twin(below, tuple(rest))
            if found is not None:
                return (one, *found)
    return None


def _require_spelling(layout: Layout, name: ModelName) -> None:
    """Where the file system ignores case, a directory may be there in another spelling than the name's."""
    if _depth(layout, name) < _DEPTH - 1:
        raise Conflict(f"{name}: a directory on its path is spelled in another case here", param="model")
