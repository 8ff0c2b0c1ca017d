"""What can be said of a server on a command line, flag by flag; and where its key is read from.

The rule: a key stands in a variable, in a file or in a pipe, never in a flag; and no message repeats it. Whether a
value can be so is for the server to say.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import NoReturn, get_args

from localmodels.cli.flags import action_of
from localmodels.cli.misuse import Misuse, number
from localmodels.cli.world import World
from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.core.fleet import ServerChange
from localmodels.core.quantity import parse_duration
from localmodels.core.secrets import Secret
from localmodels.core.servers import KEY, ServerKind

KINDS = get_args(ServerKind)
PIPE = "-"
# Fields of a server by the names of their flags, as argparse keeps them.
FIELDS = {
    "rename": "name",
    "url": "url",
    "kind": "kind",
    "api_version": "api_version",
    "description": "description",
    "max_concurrent": "max_concurrent",
    "max_queue": "max_queue",
    "priority": "priority",
    "weight": "weight",
    "default": "is_default",
    "active": "is_active",
}


class InTheOpen(argparse.Action):
    """A key on the command line, where it has been read by now; it is not repeated, and says where it belongs."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> NoReturn:
        """Ends the program."""
        parser.error(
            "there is no --key, since everybody on this machine can read a command line: --key-file FILE reads it from "
            "a file, --key-file - asks for it, --key-env VARIABLE takes it from the environment"
        )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``add`` and ``set``."""
    parser.add_argument("--rename", metavar="NAME", help="set: its other name")
    parser.add_argument(
        "--url", metavar="URL", help="set: where it is now; one with a key needs --key-… or --no-key, too"
    )
    parser.add_argument(
        "--kind",
        metavar="KIND",
        type=action_of(KINDS),
        choices=KINDS,
        help=f"the API it speaks: {', '.join(KINDS)} (default: ollama)",
    )
    parser.add_argument("--key-env", metavar="VARIABLE", help="its key is in this variable of the environment")
    parser.add_argument("--key-file", metavar="FILE", help="its key is in this file; - reads it from a pipe, or asks")
    parser.add_argument("--key", nargs="?", action=InTheOpen, help=argparse.SUPPRESS)
    parser.add_argument("--no-key", action="store_true", help="set: it gets no key any more")
    parser.add_argument(
        "--max-concurrent", metavar="N", type=int, help="requests that it gets at once (default: 4; local: 64)"
    )
    parser.add_argument("--max-queue", metavar="N", type=int, help="requests that may wait for a place (default: 64)")
    parser.add_argument("--priority", metavar="N", type=int, help="higher ones are asked first (default: 0)")
    parser.add_argument("--weight", metavar="X", type=_finite, help="how fast it is beside the others (default: 1)")
    parser.add_argument(
        "--capability",
        metavar="WORD",
        action="append",
        help="what it is for, such as code, which auto:code looks for; repeatable, an empty word takes all away",
    )
    parser.add_argument(
        "--default",
        action=argparse.BooleanOptionalAction,
        help="the first choice where nothing speaks for another",
    )
    parser.add_argument("--active", action="store_true", default=None, help="it may be asked")
    parser.add_argument("--inactive", dest="active", action="store_false", help="it is kept, and not asked")
    parser.add_argument("--description", metavar="TEXT", help="what people should know of it")
    parser.add_argument(
        "--first-byte", metavar="DURATION", help="how long it may be silent before an answer (default: 60s)"
    )
    parser.add_argument("--idle", metavar="DURATION", help="and in the middle of one (default: 120s)")
    parser.add_argument("--api-version", metavar="WORD", help="what stands behind its URL in the API (default: v1)")


def said_of(args: argparse.Namespace) -> ServerChange:
    """What the flags say of a server.

    Raises:
        Misuse: a duration that is none.
    """
    said = {field: value for flag, field in FIELDS.items() if (value := getattr(args, flag)) is not None}
    for field in ("first_byte", "idle"):
        if (text := getattr(args, field)) is not None:
            said[field] = _seconds(f"--{field.replace('_', '-')}", text)
    if args.capability is not None:
        said["capabilities"] = listed(args.capability)
    return ServerChange(**said)


def listed(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of an option that may be repeated, each once; commas part them, too."""
    return tuple(dict.fromkeys(word.strip() for text in texts for word in text.split(",") if word.strip()))


def key_of(args: argparse.Namespace, world: World) -> Secret | None:
    """The key, from where it is said to be; empty to take it away, None where nothing is said of it.

    Raises:
        Misuse: two places are said.
        InvalidRequest: it is not there.
        InvalidValue: what is there is none.
    """
    if sum(map(bool, (args.key_env, args.key_file, args.no_key))) > 1:
        raise Misuse("--key-env, --key-file and --no-key exclude each other")
    if args.no_key:
        return Secret("")
    if args.key_env:
        return _sound(world.environ.get(args.key_env, ""), f"--key-env: {args.key_env} in the environment")
    if args.key_file == PIPE:
        return _sound(_typed(world), "--key-file: what was given")
    if args.key_file:
        return _sound(_file(args.key_file), f"--key-file: {args.key_file}")
    return None


def _typed(world: World) -> str:
    if not world.stdin.isatty():
        return world.stdin.read()
    try:
        return world.read_secret("Key: ")
    except EOFError:
        raise InvalidRequest("nothing was typed") from None


def _file(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="ascii")
    except OSError as error:
        raise InvalidRequest(f"--key-file: {name} cannot be read: {error.strerror or 'it is not there'}") from error
    except UnicodeDecodeError:
        raise InvalidValue(f"--key-file: {name} is no key: it holds more than ASCII") from None


def _sound(text: str, where: str) -> Secret:
    key = text.strip()
    if not key:
        raise InvalidRequest(f"{where} is empty or not there")
    if not KEY.fullmatch(key):
        raise InvalidValue(f"{where} is no key: it holds spaces, or more than one line")
    return Secret(key)


def _finite(text: str) -> float:
    """A number. JSON has no words for the infinite and for what is none: nothing would be said to the server."""
    said = number(text)
    if not isfinite(said):
        raise argparse.ArgumentTypeError(f"'{text[:60]}' is not a number")
    return said


def _seconds(flag: str, text: str) -> float:
    try:
        return parse_duration(text)
    except InvalidValue as error:
        raise Misuse(f"{flag}: {error.message}") from error
