"""The completion script of fish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from localmodels.cli.completable import MODELS, SERVERS, Completable, Kind, Option, Value

_HEAD = f"""\
# fish completion of localmodels, written by `localmodels completion fish`
function __localmodels_models
    {MODELS}
end
function __localmodels_servers
    {SERVERS}
end
complete -c localmodels -f
"""
_VALUES: Mapping[Kind, str] = {
    "model": "-x -a '(__localmodels_models)'",
    "server": "-x -a '(__localmodels_servers)'",
    "file": "-r -F",
    "directory": "-x -a '(__fish_complete_directories)'",
    "": "-x",
}


def script(verbs: Sequence[Completable]) -> str:
    """All of it."""
    return _HEAD + "".join(f"complete -c localmodels {line}\n" for verb in verbs for line in _lines(verb))


def _lines(verb: Completable) -> Iterator[str]:
    for name in verb.names:
        yield f"-n __fish_use_subcommand -a {name} -d {quoted(verb.doc)}"
    here = f"-n '__fish_seen_subcommand_from {' '.join(verb.names)}'"
    if verb.then != Value():
        words = " ".join(verb.value.words)
        yield f"{here[:-1]}; and not __fish_seen_subcommand_from {words}' {_word(verb.value)}"
        yield f"{here[:-1]}; and __fish_seen_subcommand_from {words}' {_word(verb.then)}"
    elif verb.value != Value():
        yield f"{here} {_word(verb.value)}"
    for option in verb.options:
        yield f"{here} {_names(option)} -d {quoted(option.doc)}" + (f" {_value(option.value)}" if option.value else "")


def _word(value: Value) -> str:
    """Of a word that is no option's."""
    return _value(value).replace("-x ", "").replace("-r ", "")


def _names(option: Option) -> str:
    return " ".join(
        f"-l {name.removeprefix('--')}" if name.startswith("--") else f"-s {name.removeprefix('-')}"
        for name in option.names
    )


def _value(value: Value) -> str:
    return f"-x -a {quoted(' '.join(value.words))}" if value.words else _VALUES[value.kind]


def quoted(text: str) -> str:
    """The text as one word of the shell."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
