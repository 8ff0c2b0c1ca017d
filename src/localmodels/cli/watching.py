"""``--watch``: what a verb shows, drawn anew every two seconds until it is interrupted.

The rule: nothing is drawn before it is known, so that a terminal never stands empty while a server is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from localmodels.cli.words import complaint
from localmodels.cli.world import World
from localmodels.core.errors import BackendError, Unavailable

T = TypeVar("T")

PERIOD = 2.0  # seconds
# To the upper left corner, and what is below it away; what was scrolled up stays.
CLEAR = "\x1b[H\x1b[2J"


def watch_argument(
    parser: argparse.ArgumentParser, what: str = "list: show it anew every 2 seconds, until interrupted"
) -> None:
    """``--watch``."""
    parser.add_argument("--watch", action="store_true", help=what)


def shown(look: Callable[[], T], draw: Callable[[T], object], args: argparse.Namespace, world: World) -> int:
    """Shows it once, or again and again; a server that is away for a while is waited for, once it has answered."""
    if not args.watch:
        draw(look())
        return 0
    seen = look()
    try:
        while True:
            if world.out.isatty() and not args.json:
                world.out.write(CLEAR)
            draw(seen)
            world.out.flush()
            world.wait(PERIOD)
            seen = _again(look, world)
    except KeyboardInterrupt:
        return 0


def _again(look: Callable[[], T], world: World) -> T:
    while True:
        try:
            return look()
        except (BackendError, Unavailable) as error:
            world.err.write(complaint(error))
            world.wait(PERIOD)
