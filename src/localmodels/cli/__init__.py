"""The command line: a verb is a small module with two functions, ``arguments`` and ``run``, and a row in ``VERBS``."""

from localmodels.cli.commands import VERBS, main

__all__ = ["VERBS", "main"]
