"""``localmodels show MODEL``: all about a model, or one part of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from localmodels.cli import words
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.outcomes import FATES
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.core.catalog import Description
from localmodels.core.library import Described

Shown = tuple[Description, str]

LICENSE_LINES = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("model", metavar="MODEL", help="name, as `localmodels list` prints it")
    only = parser.add_mutually_exclusive_group()
    for part in PARTS:
        if part != "info":
            only.add_argument(f"--{part}", dest="part", action="store_const", const=part, help=f"only its {part}")
    parser.set_defaults(part="info")
    server_argument(parser, "look at it", "whichever would answer")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints it."""
    with connect(args, world) as client:
        description, parameters, copies = client.described(args.model, server=args.server)
    shown = description, parameters
    if args.json:
        told = as_json(shown) if args.part == "info" else {args.part: PARTS[args.part](shown)}
        write_json({**told, "servers": copies} if copies and args.part == "info" else told, world.out)
    else:
        text = PARTS[args.part](shown) + (by_server(copies) if args.part == "info" else "")
        world.out.write((words.printable(text) if world.out.isatty() else text).rstrip("\n") + "\n")
    return 0


def as_json(shown: Shown) -> dict[str, Any]:
    """Everything, for programs."""
    description, _ = shown
    return {
        "model": replace(description.model, **lengths(description)),
        **{part: text(shown) for part, text in PARTS.items() if part != "info"},
        "adapters": description.adapters,
        "messages": [{"role": role, "content": content} for role, content in description.messages],
        "info": description.info,
        "tensors": description.tensors,
    }


def overview(shown: Shown) -> str:
    """Everything that fits a screen, in sections."""
    description, parameters = shown
    sections = (
        ("Model", pairs(facts(description))),
        ("Capabilities", list(description.model.capabilities)),
        ("Adapters", list(description.adapters)),
        ("Parameters", pairs([tuple((*line.split(None, 1), "")[:2]) for line in parameters.splitlines()])),  # type: ignore[misc]
        ("System", description.system.splitlines()),
        ("License", description.license.strip().splitlines()[:LICENSE_LINES]),
    )
    return "\n".join(
        "".join([f"{title}\n", *(f"  {line}\n" for line in lines)]) for title, lines in sections if any(lines)
    )


def by_server(copies: Sequence[Described]) -> str:
    """A section with what each of several servers has."""
    if not copies:
        return ""
    rows = [(one.server, words.digest(one.digest) or one.failure or FATES.get(one.status, "")) for one in copies]
    return "\n".join(["", "Servers", *(f"  {line}" for line in pairs(rows))]) + "\n"


def facts(description: Description) -> list[tuple[str, str]]:
    """What the model is, as far as it is known."""
    model = description.model
    family, known = architecture(description), lengths(description)
    context, embedding = known["context_length"], known["embedding_length"]
    rows = (
        ("architecture", family),
        ("parameters", model.details.parameter_size),
        ("context length", str(context or "")),
        ("embedding length", str(embedding or "")),
        ("quantization", model.details.quantization_level),
        ("size", words.known_size(model.size)),
        ("digest", words.digest(model.digest)),
    )
    return [(name, value) for name, value in rows if value]


def architecture(description: Description) -> str:
    """What the file says, else what a list does."""
    return str(description.info.get("general.architecture") or description.model.details.family)


def lengths(description: Description) -> dict[str, int]:
    """Of context and embedding: what the file says, else what a list does."""
    model, info, family = description.model, description.info, architecture(description)
    listed = {"context_length": model.context_length, "embedding_length": model.embedding_length}
    said = {name: info.get(f"{family}.{name}") for name in listed}
    return {name: value if isinstance(value := said[name], int) and value else listed[name] for name in listed}


def pairs(rows: list[tuple[str, str]]) -> list[str]:
    """Names and values, the values under one another."""
    width = max((len(name) for name, _ in rows), default=0) + 4
    return [f"{name:<{width}}{value}".rstrip() for name, value in rows]


# What can be asked for by itself; all but the overview as it is, for a pipe into a file.
PARTS: Mapping[str, Callable[[Shown], str]] = {
    "info": overview,
    "modelfile": lambda shown: shown[0].modelfile,
    "template": lambda shown: shown[0].template,
    "parameters": lambda shown: shown[1],
    "system": lambda shown: shown[0].system,
    "license": lambda shown: shown[0].license,
}
