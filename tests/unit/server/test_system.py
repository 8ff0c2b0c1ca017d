"""What a system does when it begins no more."""

from __future__ import annotations

from types import SimpleNamespace

from localmodels.server.system import System


def test_tasks_are_interrupted_before_the_pool_refuses_what_they_ask_for() -> None:
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
    assert done == ["tasks", "pulls", "pool"]
