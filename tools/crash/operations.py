"""Everything that is tried: which stock does which operations, and on what scene."""

from __future__ import annotations

from collections.abc import Mapping

from tools.crash.flows import FLOWS, Flows, flow_scenes
from tools.crash.plain import DEFECTS, Plain
from tools.crash.scenes import SCENES, Scene
from tools.crash.stocks import Product, Stock

STOCKS: Mapping[str, type[Stock]] = {"Product": Product, "Flows": Flows, "Plain": Plain, **DEFECTS}
# What the product does, as the store has it and as the server does it.
OPERATIONS: Mapping[str, str] = {**dict.fromkeys(SCENES, "Product"), **dict.fromkeys(FLOWS, "Flows")}


def scene_of(operation: str) -> Scene:
    """What lies there before it, and must lie there after it."""
    return SCENES[operation] if operation in SCENES else flow_scenes()[operation]
