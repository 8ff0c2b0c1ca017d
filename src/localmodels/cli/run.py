"""``localmodels run MODEL [PROMPT]``: one answer, or a conversation.

A prompt, from the arguments or a pipe (both: the pipe's text first), is answered once. Without one the terminal chats.
Where no server runs, one is started; it goes on afterwards, so that the model stays loaded for the next command. A
model that is not here is pulled, as Ollama's command does; only here, never by a request, and only where the server
has nothing else to say of its name.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from shlex import quote as quoted

from msgspec import to_builtins

from localmodels.cli import session as sessions
from localmodels.cli import terminal
from localmodels.cli.connect import seek, way_to
from localmodels.cli.flags import host_argument, json_argument
from localmodels.cli.heard import Heard
from localmodels.cli.progress import people
from localmodels.cli.session import Session
from localmodels.cli.starting import start_server
from localmodels.cli.tables import write_json
from localmodels.cli.words import printable
from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls, Carrier
from localmodels.config import load
from localmodels.core.catalog import Model
from localmodels.core.errors import Forbidden, ModelNotFound
from localmodels.core.quantity import parse_duration

MISUSED = 2
# Of 1, by difflib: `localmodel` is .95 of `localmodels`; two models of Ollama's library, mistral and mixtral, are .86.
ALIKE = 0.87


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("model", metavar="MODEL", help="name, as `localmodels list` prints it")
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to ask; without it the terminal chats")
    parser.add_argument("--format", metavar="FORMAT", help="json, or a JSON schema that the answer must fit")
    parser.add_argument("--think", metavar="LEVEL", help="true, false, low, medium, high or max; alone it is true")
    parser.add_argument(
        "--keepalive", "--keep-alive", metavar="DURATION", help="how long the model stays loaded, such as 10m or -1"
    )
    parser.add_argument("--verbose", action="store_true", help="print who answered and how fast, after the answer")
    parser.add_argument("--no-pull", action="store_true", help="do not fetch a model that is not here")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Answers."""
    session = read_session(args)
    prompt = read_prompt(args, world)
    if not prompt and (args.json or not world.stdin.isatty()):
        world.err.write("Error: there is no prompt; give one as an argument or through a pipe\n")
        return MISUSED
    heard = Heard(reached(args.host, world))
    with Calls(heard) as client:
        try:
            asked(session, prompt, client, heard, args, world)
        except ModelNotFound as missing:
            if not fetched(missing, client, args, world):
                raise
            asked(session, prompt, client, heard, args, world)
    return 0


def asked(session: Session, prompt: str, client: Calls, heard: Heard, args: argparse.Namespace, world: World) -> None:
    """One answer, or a conversation."""
    if args.json:
        answer = to_builtins(client.chat(sessions.request(session, prompt)), enc_hook=str)
        write_json({"model": heard.model, "server": heard.server, **answer}, world.out)
    elif prompt:
        once(session, prompt, client, heard, world)
    else:
        converse(session, client, heard, world)


def fetched(missing: ModelNotFound, client: Calls, args: argparse.Namespace, world: World) -> bool:
    """Pulls the model that there is not, as Ollama's command does; was it that model, and is it to be pulled?

    What the server explains (no such server, switched off), what only a fleet chooses (``auto:code``) and what is most
    likely a slip of the pen is looked for in no registry.

    Raises:
        ModelNotFound: it is not to be pulled, and there is one of nearly this name.
    """
    if missing.name != args.model or missing.message != ModelNotFound(missing.name).message:
        return False
    models = listed(client)
    server, slash, model = args.model.partition("/")
    if slash and any(server.lower() in one.servers for one in models):
        what = f"`localmodels pull {quoted(model)} --server {quoted(server)}` would fetch it there"
        world.err.write(printable(f"'{server}' is a server, not a namespace of the registry; {what}\n"))
        return False
    if is_automatic(args.model):
        return False
    if meant := slip(args.model, models):
        how = "" if args.no_pull else f" `localmodels pull {quoted(args.model)}` would fetch it, if it is a model"
        raise ModelNotFound(args.model, f"did you mean '{meant}'?{how}")
    if args.no_pull:
        return False
    world.err.write(f"There is no model '{printable(args.model)}' here; pulling it\n")
    try:
        # What is shown goes to the error stream also where the answer is JSON, which alone is to be printed.
        with people(world) as show:
            client.finish(client.pull(args.model), show)
    except ModelNotFound:
        return False
    return True


def listed(client: Calls) -> Sequence[Model]:
    """The models that can be asked; none where the key may not see them."""
    try:
        return client.list()
    except Forbidden:
        return ()


def is_automatic(model: str) -> bool:
    """Does the name leave the choice to the server? No registry has such a model."""
    return model.partition(":")[0].lower() == "auto"


def slip(name: str, models: Iterable[Model]) -> str:
    """The model whose name is this one but for a letter or two; empty where there is none.

    Another number or another tag is another model (``qwen2`` and ``qwen3``), not a slip; and in a short name a letter
    more or less may well make another word.
    """
    base, _, _ = name.lower().partition(":")
    bases = {one.name.lower().partition(":")[0]: one.name.removesuffix(":latest") for one in models}
    if base in bases:
        return ""
    close = difflib.get_close_matches(base, bases, n=1, cutoff=ALIKE)
    return bases[close[0]] if close and digits(close[0]) == digits(base) else ""


def digits(text: str) -> str:
    """The figures in it."""
    return "".join(filter(str.isdecimal, text))


def read_session(args: argparse.Namespace) -> Session:
    """The settings of the conversation.

    Raises:
        InvalidValue: one of them cannot be used.
    """
    return Session(
        model=args.model,
        format=sessions.read_format(args.format) if args.format else None,
        think=sessions.read_think(args.think) if args.think else None,
        keep_alive=parse_duration(args.keepalive) if args.keepalive else None,
        verbose=args.verbose,
    )


def read_prompt(args: argparse.Namespace, world: World) -> str:
    """What to ask; empty to chat."""
    piped = "" if world.stdin.isatty() else world.stdin.read().strip()
    return "\n\n".join(part for part in (piped, " ".join(args.prompt)) if part)


def reached(host: str | None, world: World) -> Carrier:
    """The way to a server that runs, one of our own making if need be."""
    way = seek(host, world)
    if way is not None:
        return way
    log = load({}, world.environ).config.home / "logs" / "server.log"
    world.err.write("No server runs here; starting one ...\n")
    started = (world.start or start_server)(log)
    world.err.write(f"It answers at {started.url}, logs to {log} and goes on; to stop it: kill {started.pid}\n")
    if started.admin_key:
        world.err.write(f"The key of this home's administrator, shown this once: {started.admin_key.reveal()}\n")
    return way_to(started.url, world)


def once(session: Session, prompt: str, client: Calls, heard: Heard, world: World) -> None:
    """Prints one answer; what goes wrong goes to the caller, after the line that had begun."""
    printer = terminal.Printer(world.out, terminal=world.out.isatty())
    try:
        done = terminal.answer(session, prompt, client, printer)
    finally:
        printer.end()
    if done and session.verbose:
        world.err.write(terminal.timings(done, heard))


def converse(session: Session, client: Calls, heard: Heard, world: World) -> None:
    """Chats, once the model is loaded: a name that there is not is said before the first question."""
    client.load(session.model, session.keep_alive)
    with terminal.history(load({}, world.environ).config.home / "history"):
        terminal.chat(session, client, heard, world)
