"""A conversation in the terminal as a value: what was said, what is set, and what each ``/command`` changes.

Nothing here reads, prints or asks a server; :mod:`~localmodels.cli.terminal` does what these functions decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from localmodels.cli.show import PARTS
from localmodels.client import messages
from localmodels.core.chat import ChatRequest, Format, Message, ThinkLevel
from localmodels.core.errors import InvalidValue
from localmodels.core.options import NO_OPTIONS, OPTIONS, Option, Options, check
from localmodels.core.quantity import parse_duration
from localmodels.dialects.strict_json import parsed

Think = bool | ThinkLevel | None
THINK: Mapping[str, Think] = {
    "true": True,
    "false": False,
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
}


class Session(Struct, frozen=True):
    """A conversation and its settings; ``system`` empty leaves the model its own."""

    model: str
    messages: tuple[Message, ...] = ()
    system: str = ""
    options: Options = NO_OPTIONS
    format: Format | None = None
    think: Think = None
    keep_alive: float | None = None
    verbose: bool = False


class Outcome(Struct, frozen=True):
    """What a command leads to: another session, something to say, and what else to do (``part`` of it to show)."""

    session: Session
    say: str = ""
    do: Literal["go on", "leave", "show"] = "go on"
    part: str = ""


Command = Callable[[Session, list[str], str], Outcome]


def request(session: Session, text: str) -> ChatRequest:
    """The question ``text``, with all that was said before it."""
    system = (messages.system(session.system),) if session.system else ()
    return ChatRequest(
        model=session.model,
        messages=(*system, *session.messages, messages.user(text)),
        format=session.format,
        think=session.think,
        options=session.options,
        keep_alive=session.keep_alive,
    )


def answered(session: Session, text: str, answer: str) -> Session:
    """The session after a question and its answer, however far the answer came."""
    return replace(session, messages=(*session.messages, messages.user(text), messages.assistant(answer)))


def read_think(text: str) -> Think:
    """``true``, ``false`` or a level.

    Raises:
        InvalidValue: another word.
    """
    if text not in THINK:
        raise InvalidValue(f"thinking is one of {', '.join(THINK)}, not '{text}'")
    return THINK[text]


def read_format(text: str) -> Format:
    """``json``, or a JSON schema.

    Raises:
        InvalidValue: neither.
    """
    if text == "json":
        return Format()
    try:
        schema = parsed(text)
    except ValueError as error:
        raise InvalidValue(f"a format is the word json or a JSON schema: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidValue("a format is the word json or a JSON schema, which is an object")
    return Format(schema=schema)


def command(session: Session, line: str) -> Outcome:
    """What a line that begins with ``/`` means."""
    word, _, rest = line.strip().partition(" ")
    meant = COMMANDS.get(word)
    if meant is None:
        return Outcome(session, f"There is no command {word}; /? lists them.")
    try:
        return meant(session, rest.split(), rest.strip())
    except InvalidValue as error:
        return Outcome(session, str(error))


def _leave(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(session, do="leave")


def _clear(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, messages=()), "The conversation begins anew.")


def _show(session: Session, words: list[str], rest: str) -> Outcome:
    part = words[0] if words else "info"
    if part not in PARTS:
        return Outcome(session, f"/show takes one of {', '.join(PARTS)}.")
    return Outcome(session, do="show", part=part)


def _help(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(session, HELP)


def _set(session: Session, words: list[str], rest: str) -> Outcome:
    change = SET.get(words[0]) if words else None
    if change is None:
        return Outcome(session, f"/set takes one of {', '.join(SET)}.")
    return change(session, words[1:], rest.partition(" ")[2].strip())


def _set_system(session: Session, words: list[str], rest: str) -> Outcome:
    text = rest.removeprefix('"""').removesuffix('"""').strip()
    said = "The system message is set." if text else "The model's own system message applies again."
    return Outcome(replace(session, system=text), said)


def _set_parameter(session: Session, words: list[str], rest: str) -> Outcome:
    option = OPTIONS.get(words[0]) if words else None
    if option is None or option.kind == "bias":
        names = ", ".join(name for name, row in OPTIONS.items() if row.kind != "bias")
        return Outcome(session, f"/set parameter NAME VALUE, with a NAME of {names}.")
    if len(words) < 2:
        return Outcome(session, f"{option.name}: {option.doc}")
    value = check(option, raw(option, words[1:]), param=option.name)
    changed: dict[str, Any] = {option.name: value}
    return Outcome(replace(session, options=replace(session.options, **changed)), f"{option.name} is {value}.")


def raw(option: Option, words: list[str]) -> object:
    """Words as the JSON value that a request would carry; what cannot be one is left for the check to refuse."""
    if option.kind == "strings":
        return words
    text = " ".join(words)
    if option.kind == "choice":
        return text
    try:
        return parsed(text)
    except ValueError:
        return text


def _set_format(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, format=read_format(rest or "json")), "Answers will be JSON.")


def _set_noformat(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, format=None), "Answers are free text.")


def _set_think(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, think=read_think(rest or "true")), f"Thinking is {rest or 'on'}.")


def _set_nothink(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, think=False), "Thinking is off.")


def _set_verbose(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, verbose=True), "Timings follow each answer.")


def _set_quiet(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, verbose=False), "No timings.")


def _set_keepalive(session: Session, words: list[str], rest: str) -> Outcome:
    return Outcome(replace(session, keep_alive=parse_duration(rest)), f"The model stays loaded for {rest}.")


SET: Mapping[str, Command] = {
    "system": _set_system,
    "parameter": _set_parameter,
    "format": _set_format,
    "noformat": _set_noformat,
    "think": _set_think,
    "nothink": _set_nothink,
    "keepalive": _set_keepalive,
    "verbose": _set_verbose,
    "quiet": _set_quiet,
}

COMMANDS: Mapping[str, Command] = {
    "/set": _set,
    "/show": _show,
    "/clear": _clear,
    "/help": _help,
    "/?": _help,
    "/bye": _leave,
    "/exit": _leave,
}

HELP = '''\
/set system TEXT            what the model is told before the conversation
/set parameter NAME VALUE   an option of the model, such as temperature 0.2
/set format json            answers are JSON (or a JSON schema); /set noformat ends it
/set think [LEVEL]          let it think: low, medium, high, max; /set nothink
/set keepalive DURATION     how long the model stays loaded, such as 10m or -1
/set verbose                timings after each answer; /set quiet ends it
/show [PART]                the model: info, modelfile, template, parameters, system, license
/clear                      forget the conversation
/bye, /exit                 leave, as does Ctrl-D

"""                         begins and ends a message of several lines
Ctrl-C                      stops the answer'''
