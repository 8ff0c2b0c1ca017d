"""A chat on the terminal: reads lines, prints answers as they come, and keeps the lines for the next time.

The rule: whatever goes wrong with one question is said, and the conversation goes on; Ctrl-C stops the answer, not the
program, and what came of it stays part of the conversation.
"""

from __future__ import annotations

import readline
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

from localmodels.cli import session as sessions
from localmodels.cli.heard import Heard
from localmodels.cli.session import Session
from localmodels.cli.show import PARTS
from localmodels.cli.words import complaint, printable
from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls
from localmodels.core.chat import Chunk, Done, Event
from localmodels.core.errors import LocalModelsError

PROMPT, MORE = ">>> ", "... "
HINT = "Type a message. /? tells what else can be typed, /bye leaves.\n"
QUOTES = '"""'
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
HISTORY_LINES = 1000
SECOND = 10**9


def chat(session: Session, client: Calls, heard: Heard, world: World) -> None:
    """Talks until ``/bye`` or the end of the input."""
    if world.out.isatty():
        world.out.write(HINT)
    for text in messages(world.read_line, world.out):
        if not text.startswith("/"):
            session = exchange(session, text, client, heard, world)
            continue
        outcome = sessions.command(session, text)
        session = outcome.session
        if outcome.do == "leave":
            return
        said = shown(session.model, outcome.part, client) if outcome.do == "show" else outcome.say
        world.out.write(f"{printable(said)}\n")


def messages(read_line: Callable[[str], str], out: TextIO) -> Iterator[str]:
    """What is typed, each message whole, until the input ends."""
    while True:
        try:
            text = message(read_line)
        except EOFError:
            out.write("\n")
            return
        except KeyboardInterrupt:
            out.write("\nCtrl-D or /bye leaves.\n")
            continue
        if text.strip():
            yield text


def message(read_line: Callable[[str], str]) -> str:
    """One message: a line, or the lines between three quotation marks."""
    text = read_line(PROMPT)
    while text.count(QUOTES) % 2:
        text += "\n" + read_line(MORE)
    return text if text.startswith("/") else text.replace(QUOTES, "")


def exchange(session: Session, text: str, client: Calls, heard: Heard, world: World) -> Session:
    """Asks and prints the answer; the session after it, the same one where there was no answer."""
    printer = Printer(world.out, terminal=world.out.isatty())
    try:
        done = answer(session, text, client, printer)
    except KeyboardInterrupt:
        done = None
    except LocalModelsError as error:
        printer.end()
        world.err.write(complaint(error))
        return session
    printer.end()
    if done and session.verbose:
        world.err.write(timings(done, heard))
    return sessions.answered(session, text, printer.answer)


def answer(session: Session, text: str, client: Calls, printer: Printer) -> Done | None:
    """Asks and prints what comes."""
    done = None
    with closing(client.stream_chat(sessions.request(session, text))) as stream:
        for event in stream:
            printer.show(event)
            done = event if isinstance(event, Done) else done
    return done


class Printer:
    """Prints one answer as it comes: thinking dimmed, and only to people; the answer alone into a pipe."""

    def __init__(self, out: TextIO, *, terminal: bool) -> None:
        self._out = out
        self._terminal = terminal
        self._thinking = False
        self._pieces: list[str] = []
        self._said = False

    @property
    def answer(self) -> str:
        """What has come so far."""
        return "".join(self._pieces)

    def show(self, event: Event) -> None:
        """Prints what an event brought."""
        if not isinstance(event, Chunk):
            return
        if event.thinking and self._terminal:
            self._write("" if self._thinking else DIM, event.thinking)
            self._thinking = True
        if event.text:
            self._pieces.append(event.text)
            self._write(f"{PLAIN}\n\n" if self._thinking else "", event.text)
            self._thinking = False
        for call in event.tool_calls:
            self._write("", f"{call.name}{call.arguments}")

    def end(self) -> None:
        """Ends the line, and for people leaves an empty one; nothing where nothing was said."""
        if not self._said:
            return
        self._write(PLAIN if self._thinking else "", "" if self.answer.endswith("\n") else "\n")
        self._thinking = False
        if self._terminal:
            self._write("", "\n")

    def _write(self, before: str, text: str) -> None:
        self._said = True
        self._out.write(before + (printable(text) if self._terminal else text))
        self._out.flush()


def shown(model: str, part: str, client: Calls) -> str:
    """A part of the model's description, or why there is none."""
    try:
        return PARTS[part](client.show(model)).rstrip("\n") or f"The model has no {part}."
    except LocalModelsError as error:
        return f"Error: {error}"


def timings(done: Done, heard: Heard) -> str:
    """Who answered, and counts, durations and rates of the answer, a line each."""
    usage, times = done.usage, done.timings
    rows = (
        *((name, printable(said)) for name, said in (("model", heard.model), ("server", heard.server)) if said),
        ("total duration", seconds(times.total)),
        ("load duration", seconds(times.load)),
        ("prompt eval count", f"{usage.prompt_tokens} tokens, {usage.cached_tokens} of them cached"),
        ("prompt eval duration", seconds(times.prompt_eval)),
        ("prompt eval rate", rate(usage.prompt_tokens - usage.cached_tokens, times.prompt_eval)),
        ("eval count", f"{usage.completion_tokens} tokens"),
        ("eval duration", seconds(times.eval)),
        ("eval rate", rate(usage.completion_tokens, times.eval)),
    )
    return "".join(f"{name + ':':<24}{value}\n" for name, value in rows)


def seconds(nanoseconds: int) -> str:
    """``1.234 s``."""
    return f"{nanoseconds / SECOND:.3f} s"


def rate(tokens: int, nanoseconds: int) -> str:
    """``12.3 tokens/s``."""
    return f"{tokens * SECOND / nanoseconds if nanoseconds else 0.0:.1f} tokens/s"


@contextmanager
def history(file: Path) -> Iterator[None]:
    """Lines typed before, to be had with the arrow keys; kept in a file that only its owner reads."""
    readline.set_history_length(HISTORY_LINES)
    if file.is_file():
        readline.read_history_file(file)
    try:
        yield
    finally:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        readline.write_history_file(file)
