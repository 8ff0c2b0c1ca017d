"""The tree that is drawn in the module's docstring is the tree that the classes make."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from localmodels.core import errors
from localmodels.core.errors import (
    ContextLengthExceeded,
    LocalModelsError,
    ModelNotFound,
    OutOfMemory,
)

_LINE = re.compile(r"(?P<branch>[ │├└─]*)(?P<name>[A-Z]\w+)(?: +(?P<status>[45]\d\d))?(?: |$)")


def drawn() -> dict[str, tuple[str, int]]:
    """Class name to the names of its parent and its status, as drawn; a class without one has its parent's."""
    tree: dict[str, tuple[str, int]] = {}
    path: list[tuple[str, int]] = []
    for line in (errors.__doc__ or "").partition("::\n")[2].splitlines():
        match = _LINE.match(line.removeprefix("    ")) if line.strip() else None
        if match is None:
            continue
        depth = len(match["branch"]) // 4
        del path[depth:]
        parent, inherited = path[-1] if path else ("Exception", 500)
        status = int(match["status"] or inherited)
        tree[match["name"]] = (parent, status)
        path.append((match["name"], status))
    return tree


def classes(root: type[LocalModelsError]) -> Iterator[type[LocalModelsError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from classes(child)


def test_the_drawing_is_the_tree() -> None:
    real = {one.__name__: one.__mro__[1].__name__ for one in classes(LocalModelsError)}
    assert {name: parent for name, (parent, _) in drawn().items()} == real


def test_the_drawing_gives_the_statuses() -> None:
    # CallerError and the other inner nodes are drawn without one where their children have several.
    real = {one.__name__: one.status for one in classes(LocalModelsError)}
    explicit = {name: status for name, (_, status) in drawn().items() if name != "CallerError"}
    assert explicit == {name: real[name] for name in explicit}


def test_codes_are_words_and_every_leaf_that_has_its_own_is_unlike_the_others() -> None:
    own = [one.code for one in classes(LocalModelsError) if "code" in vars(one)]
    assert len(own) == len(set(own))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in own)


@pytest.mark.parametrize("one", list(classes(LocalModelsError)), ids=lambda one: one.__name__)
def test_every_class_is_told(one: type[LocalModelsError]) -> None:
    assert one.__doc__


def test_an_error_reads_as_its_message() -> None:
    error = LocalModelsError("why", param="p", retry_after=1.5)
    assert (str(error), error.message, error.param, error.retry_after) == ("why", "why", "p", 1.5)


def test_the_memory_sentence_is_the_contracts() -> None:
    error = OutOfMemory(int(18.4 * 2**30), int(17.0 * 2**30))
    assert str(error) == "Model requires more system memory (18.4 GiB) than is available (17.0 GiB)"
    assert error.status == 503


def test_a_context_error_tells_both_counts() -> None:
    error = ContextLengthExceeded(prompt_tokens=5000, context_tokens=4096)
    assert (error.prompt_tokens, error.context_tokens) == (5000, 4096)
    assert "5000" in str(error)
    assert "4096" in str(error)


def test_a_missing_model_is_told_in_ollamas_words() -> None:
    assert str(ModelNotFound("x:1")) == "model 'x:1' not found"
