"""Who may send us where: the operator to any host that he names, strangers only to what is registered (threat V-18)."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.registry.canary import Canary

from localmodels.config import Config, load
from localmodels.core.errors import Forbidden, LocalModelsError
from localmodels.core.library import PullRequest
from localmodels.server.outward import open_transfers
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore


def config(home: Path, *listen: str) -> Config:
    flags = {"listen": list(listen), "home": str(home), "insecure_no_auth": True}
    return load(flags, {}).config


async def refusal(config: Config, model: str, *, insecure: bool = False, operator: bool = True) -> LocalModelsError:
    """How a pull fails."""
    request = PullRequest(model, insecure=insecure, operator=operator)
    store, library = ModelStore(config.home), Library(())
    async with open_transfers(config, store, library) as transfers:
        try:
            async with aclosing(transfers.pull(request)) as steps:
                said = [step.status async for step in steps]
        except LocalModelsError as error:
            return error
    raise AssertionError(said)


@pytest.mark.parametrize("listen", [("127.0.0.1:8000",), ("0.0.0.0:8000",)])
@awaited
async def test_the_operator_may_name_any_host(tmp_path: Path, listen: tuple[str, ...]) -> None:
    async with Canary() as canary:
        error = await refusal(config(tmp_path, *listen), f"127.0.0.1:{canary.port}/a/b", insecure=True)
    assert not isinstance(error, Forbidden)
    assert canary.connects == 1


@pytest.mark.parametrize("insecure", [True, False])
@pytest.mark.parametrize("scheme", ["", "http://"])
@pytest.mark.parametrize("listen", [("0.0.0.0:8000",), ("127.0.0.1:8000",)])
@awaited
async def test_strangers_do_not_look_around_through_us(
    tmp_path: Path, listen: tuple[str, ...], scheme: str, *, insecure: bool
) -> None:
    async with Canary() as canary:
        for host in ("127.0.0.1", "localhost", "169.254.169.254"):
            model = f"{scheme}{host}:{canary.port}/a/b"
            error = await refusal(config(tmp_path, *listen), model, insecure=insecure, operator=False)
            assert isinstance(error, Forbidden)
    assert canary.connects == 0
