"""The table of verbs, and the way from the words of a command line to the one that is meant.

Its rule: only what the verb needs is imported (see :mod:`~localmodels.cli.lazy`).
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

from localmodels.cli import lazy
from localmodels.cli.misuse import Misuse, Parser
from localmodels.cli.words import complaint
from localmodels.cli.world import World, this_world
from localmodels.config import ConfigError
from localmodels.core.errors import LocalModelsError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


class Verb(NamedTuple):
    """What can be asked for. ``module`` is the file in this directory that answers."""

    name: str
    doc: str
    module: str
    aliases: tuple[str, ...] = ()


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("serve", "Answers requests until it is stopped.", "serve"),
        Verb("run", "Chats with a model in the terminal, or answers one prompt.", "run"),
        Verb("list", "Lists the models that can be asked.", "list", ("ls",)),
        Verb("ps", "Lists the models in memory.", "ps"),
        Verb("show", "Tells all about a model.", "show"),
        Verb("pull", "Fetches a model from its registry.", "pull"),
        Verb("push", "Sends a model to its registry.", "push"),
        Verb("create", "Makes a model by a Modelfile.", "create"),
        Verb("deploy", "Makes a model of a folder that a training left, on the server.", "deploy"),
        Verb("convert", "Makes a GGUF file of a folder of safetensors, here.", "convert"),
        Verb("artifacts", "Lists what was uploaded to become models, uploads and takes away.", "artifacts"),
        Verb("tasks", "Lists, follows, cancels and repeats the long work of the server.", "tasks"),
        Verb("cp", "Gives a model a second name, on one server or on many.", "cp"),
        Verb("rm", "Takes names of models away, and with the last one the model, on one server or on many.", "rm"),
        Verb("login", "Keeps a login of a registry, once the registry has taken it.", "login"),
        Verb("logout", "Forgets the login of a registry.", "logout"),
        Verb("keys", "Makes keys for those who may ask, lists them and takes them away.", "keys"),
        Verb("usage", "Tells requests and tokens, by model, key, server, day or hour.", "usage"),
        Verb("servers", "Lists the servers of the fleet, registers, changes, checks and forgets them.", "servers"),
        Verb(
            "models",
            "Lists the fleet's models by server, changes what is said of them, unloads and forgets them.",
            "models",
        ),
        Verb("route", "Tells who would answer a request for a model now, and why.", "route"),
        Verb("store", "Checks, repairs or tidies up the directory of models.", "store"),
        Verb("stop", "Unloads a model: takes it out of memory once its answers are done.", "stop"),
        Verb("config", "Prints every setting, its value and where it came from.", "config"),
        Verb("completion", "Prints a script that completes words in a shell.", "completion"),
        Verb("version", "Prints the versions of this program and of the server.", "version"),
    )
}


# Options whose value may be left out, and what it may be: argparse would take the next word for it, be it the name of a
# model.
ALONE: Mapping[str, tuple[str, ...]] = {"--think": ("true", "false", "low", "medium", "high", "max")}


class VerbModule(Protocol):
    """What every module in the table has."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds what the verb understands."""
        ...

    def run(self, args: argparse.Namespace, world: World) -> int:
        """Does it; the exit code."""
        ...


def main(argv: Sequence[str] | None = None, world: World | None = None) -> int:
    """Runs one command; the exit code is 0, 1 for a failure, 2 for a command that is not understood."""
    words = list(sys.argv[1:] if argv is None else argv)
    world = world or this_world()
    try:
        code = command(words, world)
        world.out.flush()  # here, where a pipe that nobody reads any more can still be answered for
        return code
    except SystemExit as end:  # of --help
        return end.code if isinstance(end.code, int) else MISUSED
    except Misuse as error:
        world.err.write(complaint(error))
        return MISUSED
    except (LocalModelsError, ConfigError) as error:
        world.err.write(complaint(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Whoever read us has gone, as in `localmodels list | head`, or the disk is full. Python would complain again at
        # its exit, when it writes what is left.
        if not isinstance(error, BrokenPipeError):
            world.err.write(complaint(error.strerror or error))
        if sys.stdout is not None:  # None is one that was closed (`>&-`)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def command(words: list[str], world: World) -> int:
    """Finds the verb and does it."""
    first = words[0] if words else ""
    if first == "help" and words[1:]:
        return explained(words[1], world)
    if first in {"-h", "--help", "help"}:
        world.out.write(overview())
        return 0
    name = "version" if first in {"-v", "--version"} else first
    verb = find(name)
    if verb is None:
        world.err.write(overview() if not name else unknown(name))
        return MISUSED
    module = load(verb)
    parser = parser_of(verb, module)
    args = parser.parse_intermixed_args(joined(words[1:]))  # `run MODEL --verbose PROMPT` is Ollama's way
    return module.run(args, world)


def explained(name: str, world: World) -> int:
    """What ``localmodels help VERB`` prints: as ``localmodels VERB --help``."""
    verb = find(name)
    if verb is None:
        world.err.write(unknown(name))
        return MISUSED
    world.out.write(parser_of(verb, load(verb)).format_help())
    return 0


def joined(words: list[str]) -> list[str]:
    """The words, each option of ``ALONE`` in one with its value; the first one that may be there is the default."""
    result: list[str] = []
    for word in words:
        if result and result[-1] in ALONE and word in ALONE[result[-1]]:
            result[-1] += f"={word}"
        else:
            result.append(word)
    return [f"{word}={ALONE[word][0]}" if word in ALONE else word for word in result]


def find(name: str) -> Verb | None:
    """The verb of this name or alias."""
    return VERBS.get(name) or next((verb for verb in VERBS.values() if name in verb.aliases), None)


def load(verb: Verb) -> VerbModule:
    """The module of a verb."""
    return cast("VerbModule", lazy.module(verb.module))


def parser_of(verb: Verb, module: VerbModule) -> Parser:
    """The parser of a verb's arguments; the reference page prints its help."""
    parser = Parser(verb.name, verb.doc)
    module.arguments(parser)
    return parser


def overview() -> str:
    """What ``localmodels --help`` prints."""
    names = {verb.name: ", ".join((verb.name, *verb.aliases)) for verb in VERBS.values()}
    width = max(map(len, names.values()))
    lines = [f"  {names[verb.name]:<{width}}  {verb.doc}" for verb in VERBS.values()]
    return (
        "usage: localmodels VERB ...\n\nRuns language models on your own machine.\n\n"
        + "\n".join(lines)
        + "\n\nlocalmodels VERB --help tells more about one.\n"
    )


def unknown(name: str) -> str:
    """What is said about a verb that there is not."""
    names = [word for verb in VERBS.values() for word in (verb.name, *verb.aliases)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(VERBS)}"
    return f"Error: there is no verb '{name}'{hint}\n"
