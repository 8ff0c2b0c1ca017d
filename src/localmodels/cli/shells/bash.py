"""The completion script of bash, from version 3.2 on (macOS has no newer one).

A colon, which stands in most names of models, ends a word for bash; so the line is split here by blanks alone, and what
stands before the last colon is taken from what is offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from localmodels.cli.completable import MODELS, SERVERS, Completable, Option, Value

_SCRIPT = """\
# bash completion of localmodels, written by `localmodels completion bash`
_localmodels() {{
    local -a words
    local line="${{COMP_LINE:0:COMP_POINT}}" current previous verb offers="" options="" kind="" cut
    read -ra words <<<"$line"
    case "$line" in *[[:space:]]) words+=("") ;; esac
    current="${{words[${{#words[@]}}-1]}}"
    previous="${{words[${{#words[@]}}-2]}}"
    verb="${{words[1]}}"
    COMPREPLY=()
    if [ "${{#words[@]}}" -le 2 ]; then
        offers="{verbs}"
    else
        case "$verb" in
{cases}
        esac
        case "$verb:$previous" in
{values}
        esac
    fi
    case "$kind" in
        model) offers="$({models})" ;;
        server) offers="$({servers})" ;;
        file|directory)
            compopt -o filenames 2>/dev/null
            while IFS= read -r cut; do COMPREPLY+=("$cut"); done < <(compgen -A "$kind" -- "$current") ;;
    esac
    case "$current" in -*) offers="$options" ;; esac
    if [ -n "$offers" ]; then
        COMPREPLY=($(compgen -W "$offers" -- "$current"))
    fi
    case "$current:$COMP_WORDBREAKS" in
        *:*:*)
            cut="${{current%"${{current##*:}}"}}"
            COMPREPLY=("${{COMPREPLY[@]#"$cut"}}") ;;
    esac
}}
complete -F _localmodels localmodels
"""
_INDENT = 12 * " "


def script(verbs: Sequence[Completable]) -> str:
    """All of it."""
    cases = (_case("|".join(verb.names), _offers(verb.value), options=_options(verb.options)) for verb in verbs)
    return _SCRIPT.format(
        verbs=" ".join(name for verb in verbs for name in verb.names),
        cases="\n".join(cases),
        values="\n".join(_values(verbs)),
        models=MODELS,
        servers=SERVERS,
    )


def _options(options: Sequence[Option]) -> str:
    return " ".join(name for option in options for name in option.names)


def _values(verbs: Sequence[Completable]) -> Iterator[str]:
    for verb in verbs:
        if verb.then != Value():
            names = "|".join(f"{one}:{word}" for one in verb.names for word in verb.value.words)
            yield _case(names, _offers(verb.then), options=_options(verb.options))
        for option in verb.options:
            if option.value is not None:
                names = "|".join(f"{one}:{name}" for one in verb.names for name in option.names)
                yield _case(names, _offers(option.value), options="")


def _offers(value: Value) -> Mapping[str, str]:
    return {"kind": "" if value.kind == "words" else value.kind, "offers": " ".join(value.words)}


def _case(names: str, offers: Mapping[str, str], *, options: str) -> str:
    assigned = "; ".join(f'{name}="{value}"' for name, value in (*offers.items(), ("options", options)))
    return f"{_INDENT}{names}) {assigned} ;;"
