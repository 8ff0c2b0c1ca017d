"""The uploaded artifacts of this machine: what there is, held while it is in use, taken away.

::

    store = ArtifactStore(home / "artifacts", quota=500 * 10**9)
    store.recover(keep=jobs)                              # once, when the program starts
    with store.draft(job) as draft:
        with draft.save(size) as writer: …                # the uploaded file, in pieces; draft.saved from then on
        with draft.file("config.json", 612) as writer: …  # what is taken out of it
        draft.publish(artifact)
        draft.discard()                                   # the uploaded file, too
    with store.held("mine") as held:
        held.artifact, held.files

The rule: a name means a whole artifact or nothing, at every moment and after every crash, and what is in use is neither
replaced nor taken away. Every method may be called from any thread; they wait for the disk.
"""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from localmodels.core.artifact_names import checked_name
from localmodels.core.artifacts import Artifact
from localmodels.core.errors import Conflict, InvalidValue, LocalModelsError, NotFound
from localmodels.store.artifact_places import FILES, GONE, NEW, OLD, Places, remove_tree
from localmodels.store.artifact_reading import Held, read_artifact, shared_lock
from localmodels.store.drafts import Draft
from localmodels.store.exchange import Exchange, exchange
from localmodels.store.folders import Folder, disk_errors
from localmodels.store.lock import PATIENCE, StoreLock, try_lock
from localmodels.store.room import Measure, Room
from localmodels.store.space import space_of

log = logging.getLogger(__name__)

STORE = "artifacts"  # the directory of the home that holds them


class ArtifactStore:
    """All artifacts.

    Args:
        root: the directory that holds them; it is made when it is first written to.
        quota: bytes that artifacts and drafts may take together; 0 means that only the disk bounds them.
        measure: how much room there is, given a descriptor of a directory.
        swap: lets two names change places; see :data:`~localmodels.store.exchange.Exchange`.
        patience: seconds to wait for somebody else's change of a name.
    """

    def __init__(
        self,
        root: Path,
        *,
        quota: int = 0,
        measure: Measure = space_of,
        swap: Exchange = exchange,
        patience: float = PATIENCE,
    ) -> None:
        self._places = Places(root)
        self._lock = StoreLock(self._places, patience=patience)
        self._room = Room(quota, self._places.used, measure)
        self._swap = swap

    @disk_errors()
    def recover(self, keep: Collection[str] = ()) -> None:
        """Clears away what dead processes left; what a crash took out of use is put back.

        What somebody has open, in whatever process, stays as it is.

        Args:
            keep: jobs whose uploaded files stay.
        """
        if not self._places.root.is_dir():
            return
        self._places.prepare()
        for job in self._places.drafts():
            try:
                with disk_errors():
                    self._clear_away(job, keep=job in keep)
            except LocalModelsError as error:  # what cannot be cleared away must not keep the program from starting
                log.warning("the draft %s cannot be cleared away: %s", job, error)

    @disk_errors()
    def draft(self, job: str) -> Draft:
        """The draft of one job.

        Raises:
            Conflict: somebody has it open.
        """
        self._places.prepare()
        with self._lock.held():  # so that whoever clears away finds none that is there and not locked yet
            folder = self._places.locked(job, make=True)
        if folder is None:
            raise Conflict(f"the upload '{job}' is being worked on; try again when that has ended")
        return Draft(job, folder, self._places, self._room, self._give)

    @disk_errors()
    def discard(self, job: str) -> None:
        """Throws a draft away, if there is one.

        Raises:
            Conflict: somebody has it open.
        """
        with suppress(FileNotFoundError):
            if job in self._places.drafts():
                self.draft(job).discard()

    # What there is

    @disk_errors()
    def all(self) -> tuple[Artifact, ...]:
        """The newest first. A damaged one is there too, as a model whose only note says what is wrong with it."""
        found = []
        for name in self._names():
            try:
                with disk_errors(), self._opened(name) as folder:
                    found.append(read_artifact(folder))
            except NotFound:
                continue  # it was taken away just now
            except LocalModelsError as error:
                log.warning("artifact %s: %s", name, error)
                found.append(Artifact(name=name, kind="model", size=0, notes=(f"damaged: {error}",)))
        return tuple(sorted(found, key=lambda one: (-one.created_at, one.name)))

    @disk_errors()
    def get(self, name: str) -> Artifact:
        """One artifact.

        Raises:
            InvalidValue: none can have this name.
            NotFound: there is none of exactly this name.
            ModelDamaged: it is not as it was published.
        """
        self._expect(name)
        with self._opened(name) as folder:
            return read_artifact(folder)

    @disk_errors()
    def held(self, name: str, id: str = "") -> Held:  # noqa: A002
        """One artifact, and the paths of its files by their names, which stay until it is closed.

        Args:
            name: of it.
            id: that it must have; empty for whatever has the name.

        Raises:
            InvalidValue, NotFound, ModelDamaged: as :meth:`get`.
            Conflict: another one has the name now.
        """
        self.get(name)
        self._places.prepare()
        with self._lock.held(), self._opened(name) as folder:
            artifact = read_artifact(folder)
            if id and artifact.id != id:
                raise Conflict(f"artifact '{name}' was replaced meanwhile; upload it again", param="artifact")
            lock = shared_lock(folder)  # nobody has it for himself: that needs the store's lock, too
        above = self._places.root / name / FILES
        return Held(artifact, {file.name: above / file.name for file in artifact.files}, lock)

    @disk_errors()
    def expect_free(self, name: str) -> None:
        """Looks whether an artifact could be published under this name now.

        Raises:
            InvalidValue: none can have this name.
            Conflict: the one that has it is in use, or one has a name that differs in case alone.
        """
        self._places.prepare()
        with self._lock.held(), self._places.top() as top, self._replaceable(top, checked_name(name)):
            pass

    # Taken away

    def delete(self, name: str) -> None:
        """Takes an artifact away, also a damaged one.

        Raises:
            InvalidValue: none can have this name.
            NotFound: there is none of exactly this name.
            Conflict: it is in use.
        """
        job = f"{GONE}-{secrets.token_hex(8)}"
        with disk_errors():
            self._expect(name)
            self._places.prepare()
            with self._lock.held(), self._places.top() as top, self._replaceable(top, name) as there:
                if not there:
                    raise NotFound(_missing(name), param="model")
                with self._places.draft(job) as draft:
                    top.move(name, draft, GONE)
                    draft.sync()
                top.sync()
        with suppress(OSError):  # its name is gone; what cannot be removed now goes when the program starts again
            self._places.clear(job)

    # Names

    def _give(self, draft: Folder, artifact: Artifact) -> None:
        name = checked_name(artifact.name, "Model")
        with self._lock.held(), self._places.top() as top, self._replaceable(top, name) as there:
            if not there:
                draft.move(NEW, top, name)
            elif not self._swap(draft, NEW, top, name):
                _replace(draft, top, name)
            top.sync()
            draft.sync()

    def _clear_away(self, job: str, *, keep: bool) -> None:
        """Puts back what a dead process took out of use, and clears its draft away."""
        with ExitStack() as stack:
            with self._lock.held():
                try:
                    folder = self._places.locked(job)
                except FileNotFoundError:
                    return  # it was thrown away meanwhile
                except NotADirectoryError:
                    folder = None  # a file or a link, which nobody can have open
                else:
                    if folder is None:
                        return
                    stack.enter_context(folder)
                    self._put_back(job)
            if not keep or folder is None:
                self._places.clear(job)

    def _put_back(self, job: str) -> None:
        """What was in the way of an artifact that did not come, and not of one that did; call it under the lock."""
        with suppress(NotADirectoryError, FileNotFoundError), self._places.own() as own, own.below(job) as draft:
            with draft.below(OLD) as old, self._places.top() as top:
                _back(old, top)
            remove_tree(draft, OLD)

    @contextmanager
    def _replaceable(self, top: Folder, name: str) -> Iterator[bool]:
        """Nobody uses what has this name, and nobody begins to; is there something? Call it under the lock."""
        alike = [one for one in top.names() if one.casefold() == name.casefold()]
        if alike and name not in alike:
            raise Conflict(
                f"an artifact with the name {alike[0]!r} is here, which differs in case alone; use that name",
                param="model",
            )
        try:
            folder = top.below(name) if alike else None
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            folder = None  # somebody put a file or a link there, which nobody can use
        try:
            if folder is not None and not try_lock(folder.descriptor):
                raise Conflict(f"artifact '{name}' is in use; try again when what uses it has ended", param="model")
            yield bool(alike)
        finally:
            if folder is not None:
                folder.close()

    def _names(self) -> tuple[str, ...]:
        try:
            with self._places.top() as top:
                return tuple(name for name in top.names() if _is_name(name))
        except FileNotFoundError:
            return ()

    def _expect(self, name: str) -> None:
        """Is there one of exactly this spelling, whatever the file system thinks?"""
        if checked_name(name) not in self._names():
            raise NotFound(_missing(name), param="model")

    @contextmanager
    def _opened(self, name: str) -> Iterator[Folder]:
        with self._places.top() as top:
            try:
                folder = top.below(name)
            except FileNotFoundError as error:  # taken away in this moment
                raise NotFound(_missing(name), param="model") from error
            with folder:
                yield folder


def _missing(name: str) -> str:
    return f"artifact '{name}' not found"


def _is_name(name: str) -> bool:
    with suppress(InvalidValue):
        return bool(checked_name(name))
    return False


def _replace(draft: Folder, top: Folder, name: str) -> None:
    """Puts the new one in the place of the old in two steps; a crash between them leaves what a start puts back."""
    with draft.below(OLD, make=True) as old:
        try:
            top.move(name, old, name)
            old.sync()
            draft.move(NEW, top, name)
            top.sync()
        except OSError:
            _back(old, top)
            raise
    draft.move(OLD, draft, GONE)


def _back(old: Folder, top: Folder) -> None:
    for name in old.names():
        if name not in top.names():
            old.move(name, top, name)
    top.sync()
