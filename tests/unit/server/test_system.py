"""What a system does when it ends."""

from __future__ import annotations

from types import SimpleNamespace

from localmodels.server.system import System


def test_what_can_be_repeated_is_interrupted_at_once_and_who_waits_is_refused_later() -> None:
    done: list[str] = []
    system = System(
        application=SimpleNamespace(),  # type: ignore[arg-type]
        pool=SimpleNamespace(drain=lambda: done.append("pool")),  # type: ignore[arg-type]
        local=SimpleNamespace(),  # type: ignore[arg-type]
        adopt=SimpleNamespace(),  # type: ignore[arg-type]
        meter=SimpleNamespace(),  # type: ignore[arg-type]
        ring=SimpleNamespace(),  # type: ignore[arg-type]
        tasks=SimpleNamespace(interrupt=lambda: done.append("tasks")),  # type: ignore[arg-type]
        pulls=SimpleNamespace(interrupt=lambda: done.append("pulls")),  # type: ignore[arg-type]
    )
    system.drain()
    assert done == ["tasks", "pulls"]
    system.refuse()
    assert done[2:] == ["pool"]
