"""Pages of the reference, made from the tables that the program runs on.

A page keeps its own words; what lies between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is written by the function of
that name in ``PARTS``. ``tools/reference.py`` writes the pages and a test compares them, so they cannot tell another
story than the code.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping

from localmodels.cli.commands import VERBS, load, parser_of
from localmodels.cli.session import HELP
from localmodels.config import SETTINGS, Setting, expected

_REGION = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with its generated parts as they should be."""
    return _REGION.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", page)


def settings() -> str:
    """The table of settings."""
    head = ("| setting | flag | default | what it is |", "|---|---|---|---|")
    rows = (
        f"| `{row.name}` | {_flag(row)} | {_default(row)} | {row.doc} Takes {expected(row)}.{_hot(row)} |"
        for row in SETTINGS.values()
    )
    return "".join(f"{line}\n" for line in (*head, *rows))


def _hot(row: Setting) -> str:
    return " **Read again.**" if row.hot else ""


def environment() -> str:
    """The table of names in the environment."""
    head = ("| name | setting |", "|---|---|")
    rows = (f"| {', '.join(f'`{word}`' for word in row.environment)} | `{row.name}` |" for row in SETTINGS.values()
            if row.environment)  # fmt: skip
    return "".join(f"{line}\n" for line in (*head, *rows))


def verbs() -> str:
    """A section a verb: what it does, and its arguments."""
    return "\n".join(
        f"## {verb.name}\n\n{verb.doc}{_aliases(verb.aliases)}\n\n{_usage(parser_of(verb, load(verb)))}"
        for verb in VERBS.values()
    )


def chat() -> str:
    """The commands of a conversation."""
    return f"```text\n{HELP}\n```\n"


PARTS: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "environment": environment,
    "verbs": verbs,
    "chat": chat,
}


def _flag(row: Setting) -> str:
    if not row.flag:
        return "none"
    return f"`{row.flag}{f' {row.metavar}' if row.metavar else ''}`{', repeatable' if row.many else ''}"


def _default(row: Setting) -> str:
    if not isinstance(row.default, str):
        return row.default_doc
    return f"`{row.default}`" if row.default else "none"


def _aliases(names: tuple[str, ...]) -> str:
    return f" Also: {', '.join(f'`{name}`' for name in names)}." if names else ""


def _usage(parser: argparse.ArgumentParser) -> str:
    """A table of arguments, free of the width of a terminal, which argparse's own help is not."""
    flags = {row.flag for row in SETTINGS.values() if row.flag}
    hidden = {"help"} | {action.dest for action in parser._actions if action.help == argparse.SUPPRESS}
    actions = [action for action in parser._actions if action.dest not in hidden]  # argparse has no other list of them
    every = flags <= {word for action in actions for word in action.option_strings}
    own = [action for action in actions if not (every and flags.intersection(action.option_strings))]
    rows = [f"| `{_form(action)}` | {(action.help or '').replace('%%', '%')} |" for action in own]
    settings = ["| … | a flag for every [setting](configuration.md) |"] if every else []
    return "".join(f"{line}\n" for line in ("| argument | |", "|---|---|", *rows, *settings))


def _form(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else ""
    if not action.option_strings:
        return {"?": f"[{value}]", "*": f"[{value} …]"}.get(str(action.nargs), value)
    return ", ".join(f"{word} {value}".rstrip() for word in action.option_strings)
