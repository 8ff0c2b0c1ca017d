"""Modelfiles: what a model is made of, as text that Ollama's users write, read and feed back.

The rule: nothing is lost on the way. Ollama's reader ends a value at the first line that closes its quotes, knows no
escape, and trims what is not quoted, so every value is quoted by what stands in it (:func:`quote`), and
:func:`read_modelfile` reads as Ollama does. It differs where Ollama loses something: characters that Go takes for
unprintable (a no-break space, the joiner inside an emoji) stay; two spaces after PARAMETER are as good as one.

The grammar, a command a line, commands in any case::

    # comment
    COMMAND value | PARAMETER name value | MESSAGE role value
    value: to the end of the line, trimmed; or in "…" or in triple quotes, over several lines, to the first line that
           ends with the same quotes
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from localmodels.core.errors import InvalidRequest, InvalidValue, TooLarge
from localmodels.core.options import OPTIONS, Option, check
from localmodels.dialects.strict_json import parsed

MOST_BYTES = 2**20
ROLES = ("system", "user", "assistant")

_TRIPLE = '"""'
_COMMANDS = (
    "from",
    "adapter",
    "draft",
    "template",
    "system",
    "parameter",
    "license",
    "message",
    "renderer",
    "parser",
    "requires",
)
_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_WORD = re.compile(r"([^ \t]*)[ \t]*")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
# What Go's strconv.ParseBool takes.
_TRUTHS: Mapping[str, bool] = {
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}
_VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?)?")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Modelfile(Struct, frozen=True):
    """A model in its maker's words.

    Attributes:
        name: what the model is called here; stands in a comment, and is not read back.
        models: files (or names) that it is made from: the weights, then a vision projector.
        drafts: files of a smaller model that guesses ahead.
        renderer: Ollama's name for code that lays out the prompt in place of the template.
        parser: Ollama's name for code that reads the answer.
        requires: the oldest version of Ollama that can run it.
        parameters: name and value; a list of values becomes a line each.
        messages: role and text of the turns that every conversation begins with.
    """

    name: str = ""
    models: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    drafts: tuple[str, ...] = ()
    template: str = ""
    renderer: str = ""
    parser: str = ""
    system: str = ""
    parameters: tuple[tuple[str, Any], ...] = ()
    license: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    requires: str = ""

    @property
    def unknown_parameters(self) -> tuple[str, ...]:
        """Parameters that are no options here; they are kept as they were written."""
        return tuple(name for name, _ in self.parameters if name not in OPTIONS)


# Writing


def write_modelfile(modelfile: Modelfile) -> str:
    """The text, every line ended."""
    return "".join(f"{line}\n" for line in (*_head(modelfile.name), *_commands(modelfile)))


def quote(text: str) -> str:
    """The text as a value that Ollama's reader reads back to it.

    One text has no such form, since its grammar has no escape: several lines of which one ends in three quotation
    marks. It is written as if it had one.
    """
    if text and text == text.strip() and not text.startswith('"') and "\n" not in text and "\r" not in text:
        return text
    return f"{_TRIPLE}{text}{_TRIPLE}"


def _head(name: str) -> tuple[str, ...]:
    if not name:
        return ()
    return (f"# Modelfile of {name}", "# To build a model on this one, write instead of FROM:", f"# FROM {name}", "")


def _commands(modelfile: Modelfile) -> Iterator[str]:
    for path in modelfile.models:
        yield f"FROM {quote(path)}"
    for path in modelfile.drafts:
        yield f"DRAFT {quote(path)}"
    for path in modelfile.adapters:
        yield f"ADAPTER {quote(path)}"
    for command in ("template", "renderer", "parser", "system"):
        text = getattr(modelfile, command)
        if text:
            yield f"{command.upper()} {quote(text)}"
    for name, value in modelfile.parameters:
        for one in _lines(name, value):
            yield f"PARAMETER {name} {quote(one)}"
    for text in modelfile.license:
        yield f"LICENSE {quote(text)}"
    for role, text in modelfile.messages:
        yield f"MESSAGE {role} {quote(text)}"
    if modelfile.requires:
        yield f"REQUIRES {quote(modelfile.requires)}"


def _lines(name: str, value: Any) -> Iterator[str]:
    """The texts of a parameter, each of which becomes a line."""
    if name in OPTIONS and OPTIONS[name].kind == "bias":
        yield msgspec.json.encode(dict(value)).decode()
        return
    for one in value if isinstance(value, (list, tuple)) else (value,):
        yield str(one).lower() if isinstance(one, bool) else str(one)


# Reading


class Command(Struct, frozen=True):
    """One command: ``word`` is the name of a parameter or the role of a message, ``line`` is where it begins."""

    line: int
    command: str
    value: str
    word: str = ""


def read_modelfile(source: bytes | str) -> Modelfile:
    """The model that a Modelfile describes; what stands twice counts as Ollama counts it.

    Bytes are UTF-8, or UTF-16 with or without its mark.

    Raises:
        TooLarge: more than 1 MiB.
        InvalidRequest: not a Modelfile, or in another encoding; names the line.
        InvalidValue: a parameter's value has the wrong type or lies outside its range; names the line.
    """
    return assembled(read_commands(source))


def read_commands(source: bytes | str) -> tuple[Command, ...]:
    """The commands of a Modelfile in its order; among them is a FROM.

    Raises:
        TooLarge: more than 1 MiB.
        InvalidRequest: not a Modelfile; names the line.
    """
    size = len(source.encode("utf-8", "surrogatepass")) if isinstance(source, str) else len(source)
    if size > MOST_BYTES:
        raise TooLarge(f"a Modelfile may have {MOST_BYTES >> 20} MiB at most, not {size} bytes", param="modelfile")
    commands = tuple(_Reader(_decoded(source)).commands())
    if not any(one.command == "from" for one in commands):
        raise InvalidRequest("the Modelfile has no FROM line; expected 'FROM' and a model", param="modelfile")
    return commands


def assembled(commands: tuple[Command, ...]) -> Modelfile:
    """The model that commands describe; what stands twice counts as Ollama counts it.

    Raises:
        InvalidValue: a parameter's value has the wrong type or lies outside its range; names the line.
    """
    texts: dict[str, list[str]] = {}
    for one in commands:
        texts.setdefault(one.command, []).append(one.value)
    return Modelfile(
        models=tuple(texts["from"]),
        adapters=tuple(texts.get("adapter", ())),
        drafts=tuple(texts.get("draft", ())),
        template=texts.get("template", [""])[-1],
        renderer=texts.get("renderer", [""])[-1],
        parser=texts.get("parser", [""])[-1],
        system=texts.get("system", [""])[-1],
        parameters=_parameters(commands),
        license=tuple(texts.get("license", ())),
        messages=tuple((one.word, one.value) for one in commands if one.command == "message"),
        requires=texts.get("requires", [""])[-1],
    )


def _decoded(source: bytes | str) -> str:
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    mark, encoding = next(((mark, name) for mark, name in _MARKS if source.startswith(mark)), (b"", "utf-8"))
    if not mark and source[:2].count(0) == 1:  # it begins with a letter of ASCII, which has one byte of zeros there
        encoding = "utf-16-be" if source[0] == 0 else "utf-16-le"
    try:
        return source[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = source[len(mark) :][: error.start].decode(encoding, errors="replace").count("\n") + 1
        what = f"byte {error.object[error.start]:#04x} is no {encoding.upper()[:6].rstrip('-')}"
        hint = "save the file as UTF-8"
        raise InvalidRequest(f"Modelfile, line {line}: {what}; {hint}", param="modelfile") from error


class _Reader:
    """Goes through the lines once."""

    def __init__(self, text: str) -> None:
        self._lines = [match.groups() for match in _LINE.finditer(text)]
        self._at = 0

    def commands(self) -> Iterator[Command]:
        while self._at < len(self._lines):
            text = self._lines[self._at][0].lstrip(" \t")
            if text and not text.startswith("#"):
                yield self._command(text)
            self._at += 1

    def _command(self, text: str) -> Command:
        line = self._at + 1
        written, rest = _split(text)
        command = written.lower()
        if command not in _COMMANDS:
            known = ", ".join(_COMMANDS).upper()
            raise _refusal(line, f"{written[:40]!r} is not a command; expected one of {known}")
        word = ""
        if command in _WORDS:
            word, rest = _split(rest)
            _WORDS[command](line, word)
        if text.rstrip(" \t") == text and not rest:
            raise _refusal(line, f"{written[:40]} {word[:40]}".rstrip() + " has no value")
        value = self._value(rest)
        check_value = _VALUES.get(command)
        return Command(line, command, check_value(line, value) if check_value else value, word)

    def _value(self, rest: str) -> str:
        """The value that begins on this line; moves on to the line on which it ends."""
        mark = _TRIPLE if rest.startswith(_TRIPLE) else '"' if rest.startswith('"') else ""
        start = self._at
        value = rest.rstrip()
        if mark and not (value.endswith(mark) and len(value) >= 2 * len(mark)):
            parts = [rest, self._lines[start][1]]
            while not parts[-2].rstrip().endswith(mark) or self._at == start:
                self._at += 1
                if self._at >= len(self._lines):
                    raise _refusal(start + 1, f"the quotes are not closed; expected {mark} at the end of a line")
                parts += self._lines[self._at]
            value = "".join(parts).rstrip()
        if "\0" in value:
            raise _refusal(start + 1, "a NUL in the text; a Modelfile is UTF-8, or UTF-16 with its mark")
        return value[len(mark) : -len(mark)] if mark else value


def _split(text: str) -> tuple[str, str]:
    match = _WORD.match(text)
    return (match[1], text[match.end() :]) if match else (text, "")


def _refusal(line: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"Modelfile, line {line}: {what}", param="modelfile")


def _check_name(line: int, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _refusal(line, f"{name[:40]!r} is no parameter's name; expected letters, digits and '_'")


def _check_role(line: int, role: str) -> None:
    if role not in ROLES:
        raise _refusal(line, f"{role[:40]!r} is not a role; expected one of {', '.join(ROLES)}")


def _check_model(line: int, value: str) -> str:
    if not value:
        raise _refusal(line, "FROM without a model; expected a name or a file")
    return value


def _check_version(line: int, value: str) -> str:
    version = value.removeprefix("v")
    if not _VERSION.fullmatch(version):
        raise _refusal(line, f"{value[:40]!r} is not a version; expected one like 0.14.0")
    return version


_WORDS: Mapping[str, Callable[[int, str], None]] = {"parameter": _check_name, "message": _check_role}
_VALUES: Mapping[str, Callable[[int, str], str]] = {"from": _check_model, "requires": _check_version}


# Parameters


def _parameters(commands: tuple[Command, ...]) -> tuple[tuple[str, Any], ...]:
    """Name and value of each parameter, in the order of their first lines."""
    grouped: dict[str, list[Command]] = {}
    for one in commands:
        if one.command == "parameter":
            grouped.setdefault(one.word, []).append(one)
    values = ((name, _parameter(name, lines)) for name, lines in grouped.items())
    return tuple((name, value) for name, value in values if value != ())


def _parameter(name: str, lines: list[Command]) -> Any:
    """The value: of several lines all, for texts and for what is not known here, else the last."""
    texts = tuple(one.value for one in lines)
    option = OPTIONS.get(name)
    if option is None:
        return texts if len(texts) > 1 else texts[0]
    raw = texts if option.kind == "strings" else _typed(option, texts[-1])
    try:
        return check(option, raw, param=f"PARAMETER {name}")
    except InvalidValue as error:
        raise InvalidValue(f"Modelfile, line {lines[-1].line}: {error.message}", param="modelfile") from error


def _typed(option: Option, text: str) -> Any:
    """The text in the type that the option wants; as text where it has no such form, for the check to refuse."""
    match option.kind:
        case "int" | "float":
            if _WHOLE.fullmatch(text):
                return int(text)
            try:
                return float(text)
            except ValueError:
                return text
        case "bool":
            return _TRUTHS.get(text, text)
        case "bias":
            try:
                return parsed(text)
            except ValueError:
                return text
        case _:
            return text
