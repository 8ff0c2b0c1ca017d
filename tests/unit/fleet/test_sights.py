"""What of a host's word counts."""

from __future__ import annotations

import pytest

from localmodels.core.catalog import Model
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.sights import sight_of

TOLD = Told(models=tuple(Model(name, 0, "", "") for name in ("m", "local/m", "LOCAL/m", "locals/m")))


@pytest.mark.parametrize(
    ("registered", "held"),
    [
        (True, {"m:latest", "locals/m:latest"}),
        (False, {"m:latest", "locals/m:latest", "local/m:latest", "LOCAL/m:latest"}),
    ],
)
def test_no_registered_server_takes_names_of_this_machine(registered: bool, held: set[str]) -> None:
    spec = ServerSpec(name="far", id="id", url="http://127.0.0.1:9", kind="ollama", registered=registered)
    assert set(sight_of(TOLD, spec, {}, 0.0).holdings) == held
