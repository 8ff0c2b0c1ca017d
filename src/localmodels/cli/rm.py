"""``localmodels rm MODEL…``: takes names away, and with a model's last name the model.

The rule: what is deleted on another server was named with that server, by ``--server`` or as ``SERVER/MODEL``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from localmodels.cli import outcomes
from localmodels.cli.connect import connect
from localmodels.cli.elsewhere import bare, hinted, holders_of
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.tables import write_json
from localmodels.cli.words import complaint, printable
from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls
from localmodels.core.errors import Conflict, LocalModelsError
from localmodels.core.library import PartlyDone


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    names = "names, as `localmodels list` prints them; SERVER/MODEL is one on that server of the fleet"
    parser.add_argument("models", metavar="MODEL", nargs="+", help=names)
    server_argument(parser, "delete them")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Deletes one after the other; one that cannot be deleted does not keep the others."""
    failed = False
    with connect(args, world) as client:
        for model in args.models:
            try:
                delete(client, model, args.server, args, world)
            except PartlyDone as error:
                failed = True
                outcomes.failed(error, f"deleted '{model}'", {"model": model}, args, world)
            except Conflict as error:
                failed = True
                world.err.write(complaint(hinted(error, "rm", model)))
            except LocalModelsError as error:
                failed = True
                world.err.write(complaint(error))
    return int(failed)


def delete(client: Calls, model: str, servers: Sequence[str], args: argparse.Namespace, world: World) -> None:
    """Deletes one and tells it; one that is ``SERVER/MODEL``, there.

    Raises:
        Conflict: it is on other servers, of which none was named; or it is busy.
    """
    try:
        told = client.delete(model, server=servers)
    except Conflict as error:
        holders = holders_of(error)
        name = bare(model, holders)
        if servers or name == model:
            raise
        delete(client, name, holders, args, world)
        return
    if told:
        outcomes.tell(told, f"deleted '{model}'", {"model": model}, args, world)
    elif args.json:
        write_json({"model": model, "status": "deleted"}, world.out)
    else:
        world.err.write(printable(f"deleted '{model}'\n"))
