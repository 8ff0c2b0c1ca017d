"""Shows how far a task of the server is, as :mod:`~localmodels.cli.progress` shows other long operations.

The rule: whoever stops watching is told what goes on without him. For programs every line is an event of
:mod:`localmodels.core.tasks`, also of the upload, which the server cannot tell of: those have the number -1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, TextIO

from msgspec.structs import replace

from localmodels.cli.progress import people
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.core.errors import BackendTimeout, StreamCut
from localmodels.core.library import OVER, Progress, Watcher
from localmodels.core.tasks import Event

Events = Generator[Event, None, None]
Tell = Callable[[Event], None]

UPLOAD = "Upload."
NOTE = "Note."  # of the server: what it says is in the details
_DIGITS = slice(7, 19)  # of a digest, as a pull shows it

GOES_ON = "the server goes on with it; `localmodels tasks` tells how far it is\n"
BROKEN_OFF = "the upload was broken off; the server keeps nothing of it\n"


def follow(begin: Callable[[Watcher], Events], args: argparse.Namespace, world: World) -> Event | None:
    """Shows a task until it ends.

    Args:
        begin: starts it; is given who is told how far an upload is.
        args: with ``json``.
        world: where it is shown.

    Returns:
        Its last event; None if the server said nothing.

    Raises:
        LocalModelsError: it did not succeed; says why.
    """
    heard = Heard()
    try:
        with _teller(args, world) as tell, closing(begin(lambda step: tell(heard.sent(step)))) as events:
            for event in events:
                tell(heard.said(event))
    except (KeyboardInterrupt, StreamCut, BackendTimeout):
        world.err.write(heard.farewell)
        raise
    return heard.last


class Heard:
    """What was heard of one task.

    Attributes:
        last: the newest of the server's events.
    """

    def __init__(self) -> None:
        self.last: Event | None = None
        self._arrived: bool | None = None  # all of an upload; None where nothing was sent

    def sent(self, step: Progress) -> Event:
        """An upload is so far; the same as an event."""
        self._arrived = step.completed >= step.total
        return Event(-1, UPLOAD, 0.0, {"status": step.status, "total": step.total, "completed": step.completed})

    def said(self, event: Event) -> Event:
        """The server said this."""
        self.last = event
        return event

    @property
    def farewell(self) -> str:
        """What is to be said to somebody who hears no more of it; empty if nothing can have begun."""
        if self.last is not None or self._arrived:
            return GOES_ON
        return "" if self._arrived is None else BROKEN_OFF


def _teller(args: argparse.Namespace, world: World) -> AbstractContextManager[Tell]:
    return _json(world.out) if args.json else _people(world)


@contextmanager
def _json(out: TextIO) -> Iterator[Tell]:
    def tell(event: Event) -> None:
        write_json(event, out)
        out.flush()

    yield tell


@contextmanager
def _people(world: World) -> Iterator[Tell]:
    steps = Steps()

    def tell(event: Event) -> None:
        for step in steps.of(event):
            show(step)

    with people(world) as show:
        yield tell


class Steps:
    """Events as bars and lines show them.

    One thing comes after the other, at each server where there are several, so what is followed by another is done.
    """

    def __init__(self) -> None:
        self._counted: dict[str, Progress] = {}  # by server

    def of(self, event: Event) -> Iterator[Progress]:
        """The steps of an event: its own words, how far it is where something is counted, and its notes."""
        step = step_of(event)
        counted = self._counted.get(step.server)
        if counted is not None and event.action != NOTE and step.status != counted.status:
            del self._counted[step.server]
            if not step.failure:
                yield replace(counted, completed=counted.total)
        if step.total:
            self._counted[step.server] = step
        yield step
        notes = event.details.get("notes")
        if isinstance(notes, list | tuple):
            yield from (Progress(note) for note in notes if isinstance(note, str))


def step_of(event: Event) -> Progress:
    """An event in its own words, how far it is, and of which server where there are several."""
    details = event.details
    server, failure = (_text(details, "server"), _text(details, "failure")) if "servers" in details else ("", "")
    ended = server and _text(details, "status") in OVER  # the server's own end is no action of the task's
    status = _text(details, "status") if ended else words_of(event.action, details)
    step = Progress(status, server=server, failure=failure)
    total, completed = details.get("total"), details.get("completed")
    if isinstance(total, int) and isinstance(completed, int):
        return replace(step, total=total, completed=completed)
    return step


def _text(details: Mapping[str, Any], name: str) -> str:
    value = details.get(name)
    return value if isinstance(value, str) else ""


def words_of(action: str, details: Mapping[str, Any]) -> str:
    """What is shown of an event: its action, with the digest of what it is about; of notes and uploads what they say.

    >>> words_of("Push model to server.", {"digest": "sha256:797b70c4edf8ab"})
    'Push model to server 797b70c4edf8'
    """
    said, digest = details.get("status"), details.get("digest")
    if action in {NOTE, UPLOAD} and isinstance(said, str) and said:
        return said
    words = action.removesuffix(".")
    return f"{words} {digest[_DIGITS]}" if isinstance(digest, str) and digest else words
