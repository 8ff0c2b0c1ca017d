"""Pulls from a registry that lies: each ends as its row says, in bounded time, and no secret ever leaves.

The canaries are the proof: what nobody may reach is never connected to, and what may be reached is told nothing about
who asks (threats V-18 to V-22, figure F20).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.awaited import awaited
from tests.registry.canary import Canary
from tests.registry.clients import PACE, PATIENCE, Client, at, client
from tests.registry.models import TINY, Model, model, stock
from tests.registry.scripts import BLOBS, LOGINS, MANIFESTS, Scene, Script
from tests.registry.server import BASIC, PASSWORD, USER, Registry

from localmodels.core.errors import LocalModelsError
from localmodels.registry.credentials import Login
from localmodels.registry.memory import MemoryShelf
from localmodels.registry.progress import BlobProgress
from localmodels.registry.pull import Pulled

# One blob of three parts; the config is on the shelf already, so that a rule's first request is the blob's.
MODEL = model(150_000)
SCRIPTS = {
    **{f"manifest: {name}": script for name, script in MANIFESTS.items()},
    **{f"blob: {name}": script for name, script in BLOBS.items()},
    **{f"login: {name}": script for name, script in LOGINS.items()},
}
CANARY = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
# More requests than any script needs, and far fewer than one that is caught in a circle.
MOST = 150


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with Canary() as secret, Canary(CANARY) as reached, Registry() as storage:
        stock(storage, MODEL)
        yield Scene(secret, reached, storage)


async def pulled(opened: Client, registry: Registry, model: Model) -> tuple[list[BlobProgress | Pulled], str]:
    """What came of a pull, and every trouble on its way."""
    stock(registry, model)
    steps = [step async for step in opened.puller.pull(TINY, (at(registry.url),))]
    return steps, " ".join(step.trouble for step in steps if isinstance(step, BlobProgress))


def told_nothing(around: Scene, liar: Registry) -> None:
    """No canary knows who we are."""
    assert around.secret.connects == 0
    secrets = [BASIC.partition(" ")[2], PASSWORD, *liar.tokens]
    heard = around.open.seen.decode("latin-1") + "".join(
        str(visit.asked.headers) + visit.asked.path + str(visit.asked.query) for visit in around.storage.visits
    )
    assert not [secret for secret in secrets if secret in heard]
    assert not re.search("authorization|cookie|injected|api-key", heard, re.IGNORECASE)
    assert not any(
        {"cookie", "x-injected"} & visit.asked.headers.keys() or "\n" in str(visit.asked.headers.values())
        for visit in liar.visits
    )


@pytest.mark.parametrize("name", SCRIPTS)
@awaited
async def test_a_lie(name: str) -> None:
    script: Script = SCRIPTS[name]
    async with (
        scene() as around,
        Registry(*script.rules(around), login=script.login, realm=script.realm(around)) as liar,
        client(
            liar.url,
            around.open.url,
            around.storage.url,
            logins={liar.url: Login.parse(USER, PASSWORD)},
            shelf=MemoryShelf(MODEL.contents[0]),
            pace=PACE,
            patience=PATIENCE,
        ) as opened,
    ):
        if script.error is None:
            steps, troubles = await pulled(opened, liar, MODEL)
            assert isinstance(steps[-1], Pulled)
            assert set(opened.shelf.blobs.values()) == set(MODEL.contents)
            if script.says:
                assert re.search(script.says, troubles)
        else:
            with pytest.raises(LocalModelsError, match=script.says or None) as caught:
                await pulled(opened, liar, MODEL)
            assert script.error is LocalModelsError or type(caught.value) is script.error
            assert PASSWORD not in str(caught.value)
        # Nothing is under a digest that it has not.
        assert set(opened.shelf.blobs.values()) <= set(MODEL.contents)
        assert len(liar.visits) < MOST
        told_nothing(around, liar)


def test_there_are_scripts_enough() -> None:
    assert len(SCRIPTS) >= 100
