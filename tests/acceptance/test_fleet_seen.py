"""A fleet as its operator sees it: figures by server under its name of now, and a health that tells what is missing."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.acceptance.serving import PATIENCE, Served, eventually, serve

HELLO = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Served]:
    with serve(home=tmp_path / "front") as front:
        yield front


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Served]:
    with serve(home=tmp_path / "behind") as behind:
        behind.post("/api/copy", source="localmodels", destination="only-there").raise_for_status()
        yield behind


def registered(front: Served, behind: Served, name: str) -> str:
    answer = front.post("/api/servers/", name=name, url=behind.url)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def samples(front: Served) -> dict[tuple[str, ...], float]:
    """By name without its beginning and labels' texts, sorted by the labels' names."""
    return {
        (sample.name.removeprefix("localmodels_"), *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(front.get("/metrics").text)
        for sample in family.samples
    }


def names(front: Served) -> set[str]:
    """Of all servers, in whatever series."""
    labels = re.findall(r'(?:server|gen_ai_provider_name)="([^"]*)"', front.get("/metrics").text)
    return set(labels)


def health(front: Served) -> dict[str, Any]:
    told: dict[str, Any] = front.get("/health?verbose=1").json()
    return told


def test_figures_follow_a_server_through_its_life(front: Served, behind: Served) -> None:
    server_id = registered(front, behind, "first")
    for path in ("/api/chat", "/v1/chat/completions"):  # as they come, and translated
        for stream in (False, True):
            answer = front.post(path, model="only-there", messages=HELLO, stream=stream)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-localmodels-server"] == "first"
    told = samples(front)
    assert {labels: number for labels, number in told.items() if labels[0] == "server_requests_total"} == {
        ("server_requests_total", "answered", "first"): 4
    }
    assert sum(number for labels, number in told.items() if labels[0] == "routed_total") == 4
    assert told["server_state", "first", "up"] == told["server_up", "first"] == 1
    assert told["server_max_concurrent", "first"] == 4
    assert told["server_in_flight", "first"] == told["server_waiting", "first"] == 0
    assert 0 <= told["server_seen_seconds", "first"] < PATIENCE
    assert told["tokens_total", "only-there:latest", "first", "completion"] > 0

    answer = httpx2.put(f"{front.url}/api/servers/{server_id}", json={"name": "second"})
    assert answer.status_code == 200, answer.text
    assert samples(front)["server_requests_total", "answered", "second"] == 4
    assert names(front) == {"local", "second"}

    assert httpx2.delete(f"{front.url}/api/servers/{server_id}").status_code in {200, 204}
    assert names(front) == {"local"}


def test_health_tells_who_is_down_and_what_is_missing(front: Served, behind: Served, tmp_path: Path) -> None:
    registered(front, behind, "behind")
    assert front.get("/health").json()["status"] == "healthy"
    with serve(home=tmp_path / "spare") as spare:
        spare.post("/api/copy", source="localmodels", destination="only-there").raise_for_status()
        registered(front, spare, "spare")
        behind.process.send_signal(signal.SIGKILL)
        behind.process.wait(PATIENCE)
        eventually(partial(is_down, front, "behind"), "it is seen to be gone")
        told = health(front)
        rows = {row["name"]: row for row in told["servers"]}
        assert (rows["behind"]["status"], rows["behind"]["state"], rows["behind"]["missing"]) == ("down", "down", [])
        assert "cannot be reached" in rows["behind"]["failure"]
        assert (rows["spare"]["status"], rows["spare"]["state"]) == ("up", "up")
        assert told["status"] == "healthy", "another has all that it had"
        assert "notes" not in told
    eventually(partial(is_down, front, "spare"), "it is seen to be gone")
    answer = front.get("/health?verbose=1")
    told = answer.json()
    assert (answer.status_code, told["status"]) == (200, "degraded")
    assert told["notes"] == [
        f"the server '{name}' does not answer, and had a model that nobody else has" for name in ("behind", "spare")
    ]
    assert {row["name"]: row["missing"] for row in told["servers"]} == {
        "behind": ["only-there:latest"],
        "spare": ["only-there:latest"],
    }
    assert samples(front)["server_state", "behind", "down"] == 1
    assert samples(front)["server_up", "behind"] == 0


def is_down(front: Served, name: str) -> bool:
    front.get("/api/models/servers").raise_for_status()
    return any(row["name"] == name and row["state"] == "down" for row in health(front)["servers"])
