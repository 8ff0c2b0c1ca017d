"""``localmodels route MODEL``: who would answer a request now, and why. Nobody is asked for it."""

from __future__ import annotations

import argparse
from functools import partial

from localmodels.cli.connect import reach
from localmodels.cli.flags import host_argument, json_argument
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.watching import shown, watch_argument
from localmodels.cli.world import World
from localmodels.client._sync_fleet_calls import FleetCalls
from localmodels.dialects.routing import ShownRoute, ShownTarget

HEADER = ("SERVER", "MODEL", "STATE", "IN MEMORY", "BUSY", "WHY")
SPARE = ("MODEL", "BUSY", "IN MEMORY", "STATE")
LEFT_OUT = ("LEFT OUT", "WHY")
IN_MEMORY = {True: "yes", False: "no", None: "?"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", default="", help="its name; auto, or none, leaves the choice to the server"
    )
    parser.add_argument("--capability", metavar="WORD", default="", help="what the model must be able to do, or be for")
    parser.add_argument(
        "--session", metavar="TEXT", default="", help="as the header X-LocalModels-Session of the request would say"
    )
    watch_argument(parser, "show it anew every 2 seconds, until interrupted")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints it."""
    able = True

    def draw(route: ShownRoute) -> None:
        nonlocal able
        able = bool(route.targets)
        if args.json:
            write_json(route, world.out)
        else:
            show(route, world)

    with FleetCalls(reach(args, world)) as client:
        shown(partial(client.route, args.model, capability=args.capability, session=args.session), draw, args, world)
    return 0 if able or args.json or args.watch else 1


def show(route: ShownRoute, world: World) -> None:
    """For people: who answers in the order in which they are asked, and who does not."""
    if route.targets:
        write_table(HEADER, list(map(row, route.targets)), world.out, SPARE)
    if route.left_out:
        world.out.write("\n" if route.targets else "")
        write_table(LEFT_OUT, [(one.server, one.reason) for one in route.left_out], world.out)
    if not route.targets:
        world.err.write("Error: nobody can answer this now\n")
    else:
        world.err.write(f"by the policy {route.policy}; the first of them that has a place answers\n")


def row(target: ShownTarget) -> tuple[str, ...]:
    """A line."""
    return (
        target.server,
        target.model,
        target.state,
        IN_MEMORY[target.warm],
        f"{target.in_flight}/{target.max_concurrent}" if target.max_concurrent else str(target.in_flight),
        target.reason,
    )
