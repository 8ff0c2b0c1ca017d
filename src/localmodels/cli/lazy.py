"""The one dynamic import of the command line.

``localmodels list`` must not wait for a web server, an engine and a table printer that it never uses. So what only some
commands need is a module named in a table (``commands.VERBS``, ``tables.PRINTERS``) and imported when it is needed.
"""

from __future__ import annotations

import importlib
from typing import Any


def module(name: str) -> Any:
    """A module of this directory; the tables' protocols say what it has."""
    return importlib.import_module(f"localmodels.cli.{name}")
