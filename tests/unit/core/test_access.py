"""Errors that know more than everybody may hear: what they say by themselves, and to whom the rest."""

from __future__ import annotations

import pytest

from localmodels.core.access import ANYBODY, Caller, Guarded, Withheld
from localmodels.core.errors import Forbidden, LocalModelsError, ModelDamaged

DAMAGED = ModelDamaged("model 'm:latest' cannot be used: its blob sha256:ab is cut")


@pytest.mark.parametrize(("models", "hears"), [(("m",), DAMAGED), (("*",), DAMAGED), (("n",), None), ((), None)])
def test_what_is_wrong_with_a_model_is_told_to_who_may_ask_for_it(models: tuple[str, ...], hears: object) -> None:
    told = Withheld(DAMAGED, "m:latest", "alias").told_to(Caller("k", "k", models=models))
    assert told is hears or (type(told), told.message) == (Forbidden, "this key may not use model 'alias'")


def test_by_itself_a_guarded_error_says_what_anybody_may_hear() -> None:
    error = Withheld(DAMAGED, "m:latest", "alias")
    assert (str(error), error.status, error.code, error.param) == (
        "this key may not use model 'alias'",
        403,
        "forbidden",
        "model",
    )
    assert isinstance(error, (Guarded, LocalModelsError))
    assert error.told_to(ANYBODY) is DAMAGED
    assert "sha256" not in f"{error!r}"
