"""LocalModels: run, convert, serve and route language models on your own machines.

::

    import localmodels

    with localmodels.Client() as client:
        print(client.list())

``import localmodels`` costs nothing: a name is imported when it is first used. The values that the clients take and
give are in :mod:`localmodels.client`; where things live is told in ``docs/design.md``.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # not the one of `typing`, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from localmodels.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("localmodels.client"), name)
    globals()[name] = value  # the next use finds it without us
    return value
