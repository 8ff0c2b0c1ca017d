"""What is imported late is out of the garbage collector's way."""

from __future__ import annotations

import gc
import sys

from localmodels.server.late import loaded

RARE = "this"  # a module of Python's that nothing else imports


def test_the_first_import_is_frozen_and_the_next_ones_are_only_looked_up() -> None:
    sys.modules.pop(RARE, None)
    before = gc.get_freeze_count()
    try:
        module = loaded(RARE)
        frozen = gc.get_freeze_count()
        assert frozen > before
        assert loaded(RARE) is module
        assert gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()
