"""What was asked and answered, in files: as it went over the wire, for a while, and only while it is wanted."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path
from typing import Any

import httpx2
from tests.acceptance.serving import PATIENCE, Served, eventually, serve

QUESTION = [{"role": "user", "content": "Wie geht's?"}]
SECRET = "sk-sesame-captured"


def captured(home: Path) -> list[dict[str, Any]]:
    """What is kept, the oldest first."""
    return [json.loads(file.read_bytes()) for file in sorted((home / "captures").glob("*.json"))]


def nothing(home: Path) -> bool:
    return not list((home / "captures").glob("*.json"))


def kept(home: Path, request_id: str) -> dict[str, Any]:
    """One of them, as soon as it is there."""

    def found() -> list[dict[str, Any]]:
        files = list((home / "captures").glob(f"*-{request_id}.json"))
        return [json.loads(text) for file in files if (text := file.read_bytes()).endswith(b"}")]

    return eventually(found, f"{request_id} is kept")[0]


def chat(served: Served, request_id: str, path: str = "/api/chat", **fields: Any) -> httpx2.Response:
    return httpx2.post(
        served.url + path,
        json={"model": "tiny", "messages": QUESTION, **fields},
        headers={"x-request-id": request_id, "authorization": f"Bearer {served.admin_key or SECRET}"},
        timeout=PATIENCE,
    )


def test_a_running_server_shows_what_its_clients_send_and_get_until_it_is_told_to_stop(
    models: dict[str, Path], tmp_path: Path
) -> None:
    home, log = tmp_path / "front", tmp_path / "log"
    home.mkdir()
    file = home / "localmodels.toml"
    with serve("--model", f"tiny={models['tiny']}", home=tmp_path / "behind") as behind:
        servers = f'[[servers]]\nname = "far"\nurl = "{behind.url}"\nkind = "ollama"\n'
        file.write_text(servers)
        tiny = f"tiny={models['tiny']}"
        with serve("--model", tiny, "--require-key", home=home, log=log) as served:
            chat(served, "before").raise_for_status()
            file.write_text('capture = "1h"\n' + servers)
            served.signal(signal.SIGHUP)
            eventually(lambda: "prompts and all" in log.read_text(), "that it is on is told")
            answers = {
                "whole": chat(served, "whole", stream=False, options={"num_predict": 3}),
                "streamed": chat(served, "streamed", options={"num_predict": 3}),
                "relayed": chat(served, "relayed", model="far/tiny", options={"num_predict": 3}),
                "passed": chat(served, "passed", model="far/tiny", stream=False),
                "openai": chat(served, "openai", "/v1/chat/completions", stream=True, max_tokens=3),
                "nobody": chat(served, "nobody", model="nobody-has-it"),
            }
            assert answers["nobody"].status_code == 404
            stranger = httpx2.post(
                f"{served.url}/api/chat", json={}, headers={"x-request-id": "stranger"}, timeout=PATIENCE
            )
            assert stranger.status_code == 401
            for request_id, answer in answers.items():
                one = kept(home, request_id)
                assert one["answer"]["body"].encode() == answer.content, request_id
                assert one["status"] == answer.status_code
                assert json.loads(one["request"]["body"])["messages"] == QUESTION
                assert ["content-type", answer.headers["content-type"]] in one["answer"]["headers"]
                by = {"relayed": "far", "passed": "far", "nobody": ""}.get(request_id, "local")
                assert one.get("server", "") == by
            assert kept(home, "nobody")["error"] == "model_not_found"
            assert [one["id"] for one in captured(home)] == list(answers)
            lying = b"".join(one.read_bytes() for one in (home / "captures").iterdir())
            assert served.admin_key.encode() not in lying
            assert {stat.S_IMODE(one.stat().st_mode) for one in (home / "captures").iterdir()} == {0o600}
            page = served.get("/metrics", headers={"x-api-key": served.admin_key}).text
            assert "localmodels_captures_total 6.0" in page
            assert "localmodels_captures_lost_total 0.0" in page
            file.write_text(servers)
            served.signal(signal.SIGHUP)
            eventually(lambda: nothing(home), "nothing is kept any more")
            chat(served, "after").raise_for_status()
        assert nothing(home)
        assert "Wie geht" not in log.read_text()


def test_what_an_earlier_server_has_kept_goes_with_the_next_start(models: dict[str, Path], tmp_path: Path) -> None:
    flags = ("--model", f"tiny={models['tiny']}")
    with serve(*flags, "--capture", "1h", home=tmp_path) as served:
        chat(served, "last").raise_for_status()
    assert [one["id"] for one in captured(tmp_path)] == ["last"]  # also what was asked just before the end
    with serve(*flags, home=tmp_path):
        eventually(lambda: nothing(tmp_path), "nothing is kept any more")
