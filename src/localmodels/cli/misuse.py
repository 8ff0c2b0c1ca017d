"""A command line that no verb can mean: one line that says what is wrong with it, and the exit code 2.

The rule: nobody has been asked and nothing has been done by then. What cannot be done though it was understood (a file
that is not there, a server that refuses) is another error, with the exit code 1.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from localmodels.core.errors import InvalidRequest


class Misuse(InvalidRequest):
    """Words that do not go together, too few or too many of them, or a value that is none."""


class Parser(argparse.ArgumentParser):
    """argparse, which raises what it has to say instead of printing the whole usage and ending the program."""

    def __init__(self, verb: str, doc: str) -> None:
        super().__init__(f"localmodels {verb}", description=doc, allow_abbrev=False)
        self.register("type", int, whole)
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        """Says it.

        Raises:
            Misuse: always.
        """
        what = message.removeprefix("argument ").replace("unrecognized arguments", "not understood")
        raise Misuse(f"{what}; `{self.prog} --help` tells more")


def whole(text: str) -> int:
    """A whole number.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text[:60]}' is not a whole number") from None


def number(text: str) -> float:
    """A number.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text[:60]}' is not a number") from None
