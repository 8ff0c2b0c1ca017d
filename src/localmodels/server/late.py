"""Modules that are imported by the first who needs them, since many servers never do.

The one rule: what they made stays out of the way of the search for garbage, as what the start made does. There are a
few such modules and each comes once, so little that could have been collected is kept by that.
"""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType


def loaded(name: str) -> ModuleType:
    """The module. To be called in a thread: the first time may take half a second."""
    first = name not in sys.modules
    module = importlib.import_module(name)
    if first:
        gc.freeze()
    return module
