"""The completion script of zsh, for a file ``_localmodels`` in its ``$fpath`` or to be evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from localmodels.cli.completable import MODELS, SERVERS, Completable, Kind, Option, Value

_SCRIPT = """\
#compdef localmodels
# zsh completion of localmodels, written by `localmodels completion zsh`
_localmodels_models() {{
    local -a names
    names=("${{(@f)$({models})}}")
    compadd -a names
}}
_localmodels_servers() {{
    local -a names
    names=("${{(@f)$({servers})}}")
    compadd -a names
}}
_localmodels() {{
    local -a verbs=(
{verbs}
    )
    if (( CURRENT == 2 )); then
        _describe verb verbs
        return
    fi
    shift words
    (( CURRENT-- ))
    case "$words[1]" in
{cases}
    esac
}}
if [[ "$funcstack[1]" == _localmodels ]]; then
    _localmodels "$@"
else
    compdef _localmodels localmodels
fi
"""
_ACTIONS: Mapping[Kind, str] = {
    "model": "_localmodels_models",
    "server": "_localmodels_servers",
    "file": "_files",
    "directory": "_files -/",
    "": "",
}
_SPECIAL = re.compile(r"([\[\]:\\])")


def script(verbs: Sequence[Completable]) -> str:
    """All of it."""
    described = (f"        {quoted(f'{name}:{verb.doc}')}" for verb in verbs for name in verb.names)
    return _SCRIPT.format(
        models=MODELS, servers=SERVERS, verbs="\n".join(described), cases="\n".join(map(_case, verbs))
    )


def _case(verb: Completable) -> str:
    specifications = [spec for option in verb.options for spec in _option(option)]
    if verb.then != Value():
        specifications.append(quoted(f"1:word:{_action(verb.value)}"))
    specifications.append(quoted(f"*:word:{_action(verb.then if verb.then != Value() else verb.value)}"))
    lines = " \\\n".join(f"                {one}" for one in specifications)
    return f"        {'|'.join(verb.names)})\n            _arguments \\\n{lines} ;;"


def _option(option: Option) -> list[str]:
    doc = _SPECIAL.sub(r"\\\1", option.doc)
    value = "" if option.value is None else f":value:{_action(option.value)}"
    return [quoted(f"*{name}[{doc}]{value}") for name in option.names]


def _action(value: Value) -> str:
    return f"({' '.join(value.words)})" if value.words else _ACTIONS[value.kind]


def quoted(text: str) -> str:
    """The text as one word of the shell."""
    return "'" + text.replace("'", "'\\''") + "'"
