"""A configuration that is read again: adopted as a whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmodels.config import SETTINGS, Config, ConfigError, Settings, load
from localmodels.server.reload import Reload, changes


def settings(**flags: object) -> Settings:
    return load({name: str(value) for name, value in flags.items()}, {"HOME": "/home/u"}, read_file=no_file)


def no_file(path: Path) -> bytes:
    raise FileNotFoundError


def reloaded(*found: Settings | ConfigError) -> tuple[list[Config], Reload]:
    adopted: list[Config] = []
    coming: Iterator[Settings | ConfigError] = iter(found)

    def read() -> Settings:
        one = next(coming)
        if isinstance(one, ConfigError):
            raise one
        return one

    async def adopt(config: Config) -> None:
        adopted.append(config)

    async def main() -> Reload:
        reload = Reload(read, settings().config, adopt)
        for _ in found:
            await reload.again()
        return reload

    return adopted, asyncio.run(main())


def test_what_can_change_is_adopted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    new = settings(keep_alive="1h", max_queue="3")
    with caplog.at_level(logging.INFO):
        adopted, _ = reloaded(new)
    assert adopted == [new.config]
    assert "new: keep_alive, max_queue" in caplog.text


def test_one_that_cannot_be_used_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    adopted, _ = reloaded(ConfigError("keep_alive: 'soon' cannot be used"))
    assert adopted == []
    assert "the configuration stays as it was: keep_alive: 'soon' cannot be used" in caplog.text


def test_what_cannot_change_is_named_each_time(caplog: pytest.LogCaptureFixture) -> None:
    new = settings(num_parallel="3", keep_alive="1h")
    with caplog.at_level(logging.INFO):
        reloaded(new, new)
    assert caplog.text.count("only a new start changes num_parallel") == 2
    assert "nothing is new" in caplog.text  # keep_alive was, the first time


def test_every_difference_is_hot_or_cold() -> None:
    hot, cold = changes(settings().config, settings(alias="a=b", home="/elsewhere", log_level="debug").config)
    assert (hot, cold) == (["alias", "log_level"], ["home"])


def test_settings_on_which_a_start_stands_are_cold() -> None:
    assert not any(SETTINGS[name].hot for name in ("listen", "home", "models", "memory_limit", "insecure_no_auth"))
