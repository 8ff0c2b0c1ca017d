"""Flags that verbs share: the table of settings, the server's address, and JSON."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from localmodels.cli.misuse import Misuse
from localmodels.cli.world import World
from localmodels.config import SETTINGS, Config, Setting, Settings, load
from localmodels.core.errors import InvalidValue
from localmodels.core.library import EVERY
from localmodels.core.quantity import parse_duration

# What people say instead, and what there may be for it.
OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("remove", "delete", "del", "revoke", "forget"), ("rm", "forget")),
    **dict.fromkeys(("create", "make", "new", "register"), ("add",)),
    **dict.fromkeys(("change", "edit", "update"), ("set",)),
    **dict.fromkeys(("ls", "show"), ("list",)),
}
DAY = 86_400.0  # seconds
CONFIG_FILE = "file of settings; else localmodels.toml in the home"


def host_argument(parser: argparse.ArgumentParser) -> None:
    """``--host``, which every verb has that asks a server."""
    parser.add_argument(
        "--host", metavar="ADDRESS", help="the server: host, host:port or https://…; else LOCALMODELS_HOST, OLLAMA_HOST"
    )


def json_argument(parser: argparse.ArgumentParser) -> None:
    """``--json``, which every verb has."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def action_of(actions: Iterable[str]) -> Callable[[str], str]:
    """Reads an action, the first word of many verbs, for argparse: of one that there is not it says what was meant."""
    there = tuple(actions)

    def read(word: str) -> str:
        if word in there:
            return word
        others = [other for other in OTHER_WORDS.get(word, ()) if other in there]
        near = others or difflib.get_close_matches(word, there, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(there)}"
        raise argparse.ArgumentTypeError(f"there is no '{word}'; {hint}")

    return read


def server_argument(parser: argparse.ArgumentParser, what: str, without: str = "on the gateway itself alone") -> None:
    """``--server``, which every verb has that can do it on the servers behind the one that is asked.

    Args:
        parser: of the verb.
        what: is done there.
        without: where it is done if no server is named.
    """
    parser.add_argument(
        "--server",
        metavar="SERVER",
        action="append",
        default=[],
        help=f"{what} on this server of the fleet, by its name or id; repeatable, * is every one (default: {without})",
    )


def one_server_argument(parser: argparse.ArgumentParser, what: str, without: str) -> None:
    """``--server`` of a verb that one server alone can do; the rest as :func:`server_argument`."""
    parser.add_argument(
        "--server",
        metavar="SERVER",
        type=one_server,
        default="",
        help=f"{what} on this server of the fleet, by its name or id (default: {without})",
    )


def one_server(word: str) -> str:
    """A server, for argparse; not every one.

    Raises:
        argparse.ArgumentTypeError: it is ``*``.
    """
    if word == EVERY:
        raise argparse.ArgumentTypeError("it is one server here, not every one; `localmodels servers` lists them")
    return word


def read_span(flag: str, text: str) -> float:
    """Seconds of a flag's value; people who mean weeks say days.

    Raises:
        Misuse: it is no duration.
    """
    days = text.removesuffix("d")
    try:
        return float(days) * DAY if days != text and days.isdecimal() and len(days) < 6 else parse_duration(text)
    except InvalidValue:
        raise Misuse(f"{flag}: '{text[:60]}' is not a duration, such as 12h or 30d") from None


def home_argument(parser: argparse.ArgumentParser) -> None:
    """``--home`` and ``--config``, for verbs that look at the files of a server and ask none."""
    parser.add_argument("--home", metavar="DIRECTORY", help=describe(SETTINGS["home"]))
    parser.add_argument("--config", metavar="FILE", help=CONFIG_FILE)


def home_settings(args: argparse.Namespace, world: World) -> Settings:
    """The settings of a server in that home, and where they come from."""
    return load({"home": args.home, "config": args.config}, world.environ)


def home_config(args: argparse.Namespace, world: World) -> Config:
    """The settings of a server in that home."""
    return home_settings(args, world).config


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each setting. Texts are not looked at here: one place says what a value must be."""
    parser.add_argument("--config", metavar="FILE", help=CONFIG_FILE)
    for setting in SETTINGS.values():
        if not setting.flag:
            continue  # a secret: everybody on the machine can read a command line
        parser.add_argument(setting.flag, dest=setting.name, default=None, help=describe(setting), **_form(setting))


def given(args: argparse.Namespace) -> dict[str, object]:
    """What was set on the command line, as ``config.load`` reads it."""
    return {name: getattr(args, name, None) for name in ("config", *SETTINGS)}


def describe(setting: Setting) -> str:
    """The help of one flag."""
    default = setting.default if isinstance(setting.default, str) else setting.default_doc
    doc = setting.doc.removesuffix(".")
    if doc.split()[0][1:].islower():  # names such as PostgreSQL stay as they are
        doc = doc[0].lower() + doc[1:]
    extra = f" (default: {default})" if default and default != "false" else ""
    return (doc + extra).replace("%", "%%").replace("`", "")


def _form(setting: Setting) -> dict[str, Any]:
    if setting.kind == "switch":
        both = "environment" in setting.sources  # what only a flag can set need not be unset
        return {"action": argparse.BooleanOptionalAction} if both else {"action": "store_true"}
    return {"metavar": setting.metavar, "action": "append" if setting.many else "store"}
