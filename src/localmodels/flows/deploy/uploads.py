"""From an uploaded file to an artifact: saved, unpacked and looked at, and only then given its name.

The rule: the name is given last, in one step; whatever happens before leaves what had the name. What is wrong with the
upload itself throws all of it away. Whatever else ends the work (a full disk or quota, a slow machine, a cancelled
task, the server's end) leaves the saved file, so that nobody has to send it again; :meth:`Uploads.discard` takes that
away.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any, TypeVar

from localmodels.artifacts.archive import Extractor
from localmodels.artifacts.archive import Job as Extraction
from localmodels.artifacts.inspection import Findings, Inspector
from localmodels.artifacts.inspection import Job as Inspection
from localmodels.artifacts.worker import Worker
from localmodels.core.artifact_names import FIELD, GGUF, name_of
from localmodels.core.artifacts import Artifact
from localmodels.core.deploys import is_uploaded, made_by, uploaded_as
from localmodels.core.errors import (
    CallerError,
    Conflict,
    EngineError,
    InvalidRequest,
    ModelDamaged,
    NotFound,
    QuotaFull,
)
from localmodels.core.tasks import Step
from localmodels.flows.concurrency.thread_progress import Done, Tell, watched
from localmodels.flows.concurrency.threads import finished, in_thread, opened
from localmodels.store.artifact_reading import Held
from localmodels.store.artifact_writer import Writer
from localmodels.store.artifacts import ArtifactStore
from localmodels.store.drafts import Draft

T = TypeVar("T")
Steps = AsyncGenerator[Step, None]

EXTRACTOR = "localmodels.engine.extractor"
INSPECTOR = "localmodels.engine.inspector"
NICE = 10  # answers go first
# Room is looked at once it is known how much will come out: a full disk is told otherwise than too large an archive.
MOST_BYTES = 2**50

SAVED = "saved"
"""What is durable, in :attr:`Step.whole <localmodels.core.tasks.Step.whole>`; then comes what ``uploaded_as`` says."""

# What is not the upload's fault, though it is the caller's to mend: what was saved is good when that is done.
_MENDABLE = (Conflict, QuotaFull)

# How far all of the work is; the first two are seed 001's.
_SAVED_AT, _EXTRACT_AT, _INSPECT_AT, _PUBLISH_AT, _PUBLISHED_AT = 0.0, 0.66, 0.9, 0.97, 0.99


class _Meter:
    """How much of an archive was worked through, in bytes of it: all of it is looked at, then it is unpacked."""

    def __init__(self, size: int) -> None:
        self.whole = 2 * size
        self._size = size
        self._done = 0
        self._tell: Tell = lambda _done: None

    def begin(self, tell: Tell) -> None:
        """From now on it is told."""
        self._tell = tell

    def seen(self, done: int) -> None:
        """So many bytes were looked at; what is said later, while it is unpacked, is only a sign of life."""
        self._reached(min(done, self._size))

    def written(self, done: int, of: int) -> None:
        """So many bytes came out."""
        self._reached(self._size + self._size * done // of)

    def _reached(self, done: int) -> None:
        self._done = max(self._done, done)
        self._tell(self._done)


class Uploads:
    """Makes artifacts, tells which there are, and takes them away.

    Args:
        store: keeps them.
        extractor, inspector: modules that the children run.
        now: nanoseconds since 1970.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        extractor: str = EXTRACTOR,
        inspector: str = INSPECTOR,
        now: Callable[[], int] = time_ns,
    ) -> None:
        self._store = store
        self._saved: dict[str, Draft] = {}  # locked from the first byte on, until somebody has taken it apart
        self._now = now
        self._extractor = extractor
        self._inspector = inspector

    async def recover(self, keep: Collection[str]) -> None:
        """Clears away what an earlier process left, but for the saved files of these jobs; once, at the start."""
        await in_thread(self._store.recover, keep)

    async def close(self) -> None:
        """Lets go of what was saved and not unpacked; the files stay."""
        while self._saved:
            _, draft = self._saved.popitem()
            await in_thread(draft.close)

    async def save(self, job: str, filename: str, pieces: AsyncIterator[bytes], size: int | None = None) -> None:
        """Saves an uploaded file. When this returns it is on disk; when it raises, nothing of it is.

        Args:
            job: id of the draft; no other upload has it.
            filename: as the sender has it; the artifact is named after it.
            pieces: the file.
            size: bytes, as far as they are known; room for them is set aside at once.

        Raises:
            UnsupportedMedia: the name promises nothing that can be unpacked.
            InvalidValue: no artifact can have this name.
            InvalidRequest: the file is empty.
            Conflict: the artifact of this name is in use, or one has a name that differs in case alone.
            TooLarge: the quota does not allow it.
            DiskFull: there is no room.
        """
        await in_thread(self._store.expect_free, name_of(filename))
        draft = await opened(lambda: self._store.draft(job), Draft.close)
        try:
            await _save(draft, pieces, size or 0)
        except BaseException:
            await in_thread(draft.discard)
            raise
        self._saved[job] = draft

    async def unpack(self, job: str, filename: str) -> Steps:
        """Makes an artifact of a saved file; ``whole`` of the first step is ``saved``.

        That of the last two says that it is uploaded, and as what: see :func:`~localmodels.core.deploys.uploaded_as`.
        Whoever comes back after the first of them has written that down, and only then the saved file is thrown away.

        Args:
            job: as :meth:`save` had it.
            filename: likewise.

        Raises:
            NotFound: nothing was saved for this job.
            InvalidRequest: the file is no archive, a bad one, or holds nothing that can become a model.
            Unsupported: it holds what is not read here, such as pickles.
            TooLarge: what is in it is more than an archive should hold.
            QuotaFull: it is more than the quota allows.
            Conflict: as :meth:`save`; or somebody else works on this job.
            EngineError: unpacking it, or looking at it, died or took too long.
            DiskFull: there is no room.
        """
        name = name_of(filename)
        draft = self._saved.pop(job, None)
        if draft is None:
            draft = await opened(lambda: self._store.draft(job), Draft.close)
        keep = True
        try:
            async with aclosing(self._made(draft, name, filename)) as steps:
                async for step in steps:
                    yield step
                    keep = keep and not is_uploaded(step.whole)
        except CallerError as error:
            keep = isinstance(error, _MENDABLE)
            raise
        finally:
            try:
                await in_thread(draft.start_over if keep else draft.discard)
            finally:
                await in_thread(draft.close)

    async def discard(self, job: str) -> None:
        """Throws away what was saved for a job that nobody works on, if there is something."""
        if draft := self._saved.pop(job, None):
            await in_thread(draft.discard)
        else:
            await in_thread(self._store.discard, job)

    async def done(self, job: str, filename: str, whole: str) -> Steps:
        """The last step of :meth:`unpack` once more, for a retry of one that came to it; the saved file goes.

        Args:
            job: as :meth:`unpack` had it.
            filename: likewise.
            whole: of the last step.

        Raises:
            NotFound: the artifact was taken away meanwhile.
            Conflict: it was replaced meanwhile.
        """
        held = await opened(lambda: self._store.held(name_of(filename), made_by(whole)), Held.close)
        await in_thread(held.close)
        await self.discard(job)
        yield _uploaded(held.artifact, filename, 1.0)

    async def all(self) -> tuple[Artifact, ...]:
        """The artifacts, the newest first."""
        return await in_thread(self._store.all)

    async def list(self) -> Steps:
        """The artifacts as seed 001 has them: a step for each."""
        found = await in_thread(self._store.all)
        for number, artifact in enumerate(found, 1):
            yield Step("Get model.", number / len(found), {"model": artifact.name, **_told(artifact)})

    async def delete(self, name: str) -> None:
        """Takes an artifact away.

        Raises:
            InvalidValue: none can have this name.
            NotFound: there is none.
            Conflict: it is in use.
        """
        await finished(self._store.delete, name)

    async def _made(self, draft: Draft, name: str, filename: str) -> Steps:
        details = {"model": filename}
        saved = await in_thread(lambda: draft.saved)
        if saved is None:
            raise NotFound("the uploaded file is not here any more; upload it again")
        yield Step("Started save model.", _SAVED_AT, details, whole=SAVED)
        yield Step("Start extracted model.", _EXTRACT_AT, details)
        notes: tuple[str, ...] = ()
        meter = _Meter((await in_thread(saved.stat)).st_size)
        async with aclosing(self._unpacked(draft, saved, name, meter)) as unpacking:
            async for done in unpacking:
                if isinstance(done, Done):
                    notes = done.value
                elif done:
                    ratio = _EXTRACT_AT + (_INSPECT_AT - _EXTRACT_AT) * done / meter.whole
                    yield Step("Extract model.", ratio, {**details, "completed": done, "total": meter.whole})
        yield Step("Inspect model.", _INSPECT_AT, details)
        try:
            findings = await self._inspected(draft)
        except ModelDamaged as error:  # not by us
            raise InvalidRequest(error.message, param=FIELD) from error
        artifact = Artifact(
            name=name,
            kind=findings.kind,
            size=0,
            architecture=findings.architecture,
            dtype=findings.dtype,
            parameters=findings.parameters,
            context=findings.context,
            tokenizer=findings.tokenizer,
            base=findings.base,
            notes=(*notes, *findings.notes),
            source=filename,
            created_at=self._now(),
        )
        yield Step("Publish model.", _PUBLISH_AT, details)
        whole = await finished(draft.publish, artifact)
        yield _uploaded(whole, filename, _PUBLISHED_AT)
        yield _uploaded(whole, filename, 1.0)

    async def _unpacked(
        self, draft: Draft, saved: Path, name: str, meter: _Meter
    ) -> AsyncGenerator[int | Done[tuple[str, ...]], None]:
        """How far it is, and the notes at the end."""
        job = Extraction(str(saved), f"{name}{GGUF}", MOST_BYTES, nice=NICE)
        child = await opened(partial(Extractor, job, module=self._extractor, seen=meter.seen), Extractor.close)
        async with aclosing(_watched_child(child, partial(_extract, draft, child, name, meter))) as steps:
            async for step in steps:
                yield step

    async def _inspected(self, draft: Draft) -> Findings:
        root, names = draft.place, tuple(file.name for file in draft.files)
        child = await opened(
            partial(Inspector, Inspection(str(root), names, nice=NICE), module=self._inspector), Inspector.close
        )
        findings: Findings | None = None
        async with aclosing(_watched_child(child, lambda _tell: child.findings())) as steps:
            async for step in steps:
                findings = step.value if isinstance(step, Done) else findings
        if findings is None:
            raise EngineError("nobody looked at what was uploaded")
        return findings


def _uploaded(artifact: Artifact, filename: str, ratio: float) -> Step:
    details = {"model": filename, "artifact": artifact.name, "artifact_id": artifact.id, **_told(artifact)}
    action = "Success upload model file." if ratio == 1 else "Publish model."
    return Step(action, ratio, details, whole=uploaded_as(artifact.id))


async def _watched_child(child: Worker, work: Callable[[Tell], T]) -> AsyncGenerator[int | Done[T], None]:
    """Work that waits for a child, which is gone when this ends."""
    try:
        # Without the kill, the thread that reads from the child would wait for what it says next.
        async with aclosing(watched(work, wake=child.kill)) as steps:
            async for step in steps:
                yield step
    finally:
        await in_thread(child.close)


def _extract(draft: Draft, child: Extractor, name: str, meter: _Meter, tell: Tell) -> tuple[str, ...]:
    """Takes everything out; the notes on what was passed over. In a thread."""
    meter.begin(tell)
    outline = child.outline()
    if outline.format == "gguf":
        draft.take(f"{name}{GGUF}")
        return outline.notes
    draft.require(outline.size)
    before = 0
    for entry in child.entries():
        with draft.file(entry.name, entry.size) as writer:
            for piece in entry.pieces:
                writer.write(piece)
                meter.written(before + writer.written, outline.size)
            writer.commit()
        before += entry.size
    return outline.notes


def _told(artifact: Artifact) -> Mapping[str, Any]:
    """What is said of an artifact."""
    return {
        "kind": artifact.kind,
        "architecture": artifact.architecture,
        "size": artifact.size,
        "notes": artifact.notes,
    }


async def _save(draft: Draft, pieces: AsyncIterator[bytes], room: int) -> None:
    writer = await opened(lambda: draft.save(room), Writer.cancel)
    try:
        async for piece in pieces:
            await in_thread(writer.write, piece)
        if not writer.written:
            raise InvalidRequest("the uploaded file is empty", param=FIELD)
        await in_thread(writer.commit)
    finally:
        await in_thread(writer.cancel)
