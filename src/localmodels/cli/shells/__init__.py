"""What each shell wants to be told to complete words: a function from what can be completed to a script, and a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from localmodels.cli.completable import Completable
from localmodels.cli.shells import bash, fish, zsh

SHELLS: Mapping[str, Callable[[Sequence[Completable]], str]] = {
    "bash": bash.script,
    "zsh": zsh.script,
    "fish": fish.script,
}
