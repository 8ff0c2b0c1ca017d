"""What is asked of the library of models, and how it says how far it is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from localmodels.core.errors import BackendError
from localmodels.core.options import OPTIONS

# Parameters that today's or an earlier Ollama knows and our engine has no use for: kept and shown, never heeded.
KEPT_PARAMETERS = frozenset({
    "draft_num_predict", "f16_kv", "logits_all", "low_vram", "num_gqa", "num_keep", "numa", "penalize_newline",
    "rope_frequency_base", "rope_frequency_scale", "tfs_z", "use_mlock", "vocab_only",
})  # fmt: skip


def unknown_parameter(name: str) -> str:
    """What is said of a parameter that there is not: the nearest that there is, if one is near."""
    near = difflib.get_close_matches(name[:60], (*OPTIONS, *KEPT_PARAMETERS), n=1)
    return f"unknown parameter '{name[:60]}'" + (f"; did you mean '{near[0]}'?" if near else "")


SUCCESS = "success"
"""The status that ends a stream of progress: all that was asked is done and durable."""

EVERY = "*"
"""In place of names of servers: every one that may be asked."""


class Progress(Struct, frozen=True):
    """One step of a long operation.

    Attributes:
        status: in Ollama's words, which its clients show: ``pulling manifest``, ``pulling 797b70c4edf8``,
            ``verifying sha256 digest``, ``writing manifest``, ``success``.
        digest: of the blob that the step is about, ``sha256:…``; empty if it is about none.
        total: bytes of what the status names; ``completed`` of them are done. 0 when nothing is counted.
        server: whose step it is, where several servers do the same; ``success`` then says that this one is done.
        failure: why this server does no more, for people; the status is then ``error``. The others go on.
    """

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0
    server: str = ""
    failure: str = ""


FAILED = "error"
"""The status of a server that does no more."""

ABSENT = "not found"
"""The status of a server that has no model of the name, and so has nothing to do."""


SKIPPED = "skipped"
"""The status of a server that cannot be asked for this, where every server was meant that can."""

OVER = frozenset({SUCCESS, FAILED, ABSENT, SKIPPED})
"""What can have become of a server in the end; every other status is a step on the way."""

SHOWN = 3  # failures that an error tells in full


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What became of an operation on one of several servers.

    Attributes:
        server: its name.
        status: ``success``, ``error``, ``not found`` where there was nothing to do, or ``skipped``.
        failure: why it failed, or was not asked, for people.
    """

    server: str
    status: str
    failure: str = ""


class Described(Outcome, frozen=True, omit_defaults=True):
    """What one of several servers says of a model.

    Attributes:
        digest: of its file, hexadecimal; empty where the server does not tell.
    """

    digest: str = ""


class PartlyDone(BackendError):
    """Some of several servers did it, or none, and at least one did not. What is done stays done.

    Attributes:
        outcomes: of all of them.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        failed = [one for one in outcomes if one.status == FAILED]
        told = [f"{one.server}: {one.failure}" for one in failed[:SHOWN]]
        more = [f"{len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
        super().__init__(f"{len(failed)} of {len(outcomes)} servers failed: {'; '.join((*told, *more))}")
        self.outcomes = tuple(outcomes)


def partly_done(outcomes: Sequence[Outcome]) -> PartlyDone | None:
    """The error that these are, where all servers have come to their end, and one of them to a bad one."""
    whole = all(one.status in OVER for one in outcomes)
    return PartlyDone(outcomes) if whole and any(one.status == FAILED for one in outcomes) else None


Watcher = Callable[[Progress], object]
"""Whoever wants to know how far a long operation is, called with each step."""


def unwatched(step: Progress) -> None:
    """Nobody wants to know."""


class PullRequest(Struct, frozen=True):
    """Fetch a model from its registry. ``insecure`` allows plain HTTP to that registry.

    ``operator``: is it the owner of this machine who asks? Who is not may name no host of the local network. No
    bytes say so: the route sets it, which knows its caller.

    ``servers``: ids or names of those that shall do it, or :data:`EVERY`; empty for this machine.
    """

    model: str
    insecure: bool = False
    stream: bool = True
    operator: bool = False
    servers: tuple[str, ...] = ()


class PushRequest(Struct, frozen=True):
    """Send a model to its registry; ``insecure``, ``operator`` and ``servers`` as in :class:`PullRequest`."""

    model: str
    insecure: bool = False
    stream: bool = True
    operator: bool = False
    servers: tuple[str, ...] = ()


class CopyRequest(Struct, frozen=True):
    """Give a model a second name; ``servers`` as in :class:`PullRequest`."""

    source: str
    destination: str
    servers: tuple[str, ...] = ()


class DeleteRequest(Struct, frozen=True):
    """Take a name away, and with the last name the model; ``servers`` as in :class:`PullRequest`."""

    model: str
    servers: tuple[str, ...] = ()


class CreateRequest(Struct, frozen=True):
    """Make a model of another one or of uploaded files.

    Attributes:
        base: name of the model that it is made of; empty if it is made of ``files``.
        files: file name and digest of uploaded blobs, relative names in any order.
        adapters: the same, of LoRA adapters.
        artifact: name of an uploaded artifact that it is made of; of an adapter, ``base`` is then the model of the
            library, or the artifact, that it is for.
        artifact_id: what that artifact must be, whatever has its name by now; empty where the name is enough.
        template, system: None leaves what the base has; an empty text takes it away.
        parameters: name and value, as checked against the table of options where it knows them.
        messages: role and text of the turns that every conversation begins with; None leaves what the base has.
        license: None leaves what the base has.
        quantize: type in llama.cpp's words, such as ``Q4_K_M``; empty leaves the weights as they are.
        renderer, parser: Ollama's names for code that lays out prompts and reads answers; empty leaves what the base
            has. Like ``requires``, the least version of Ollama that the model needs, kept for Ollama, not heeded here.
        modelfile: the recipe as text (seed 004), for what the fields above leave open.
        servers: as in :class:`PullRequest`; files that are here are brought to them first.
    """

    model: str
    base: str = ""
    files: tuple[tuple[str, str], ...] = ()
    adapters: tuple[tuple[str, str], ...] = ()
    template: str | None = None
    system: str | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    messages: tuple[tuple[str, str], ...] | None = None
    license: tuple[str, ...] | None = None
    quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    modelfile: str = ""
    stream: bool = True
    artifact: str = ""
    artifact_id: str = ""
    servers: tuple[str, ...] = ()
