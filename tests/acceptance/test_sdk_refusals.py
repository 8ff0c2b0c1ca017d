"""What the official SDKs make of everything around an error: refusals at the door, waiting times, ids of requests.

And the gateway's own API, which has no SDK: a client that reads JSON by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import anthropic
import httpx2
import ollama
import openai
import pytest
from tests.acceptance.failing import CLASSES, MESSAGE, failing, made
from tests.acceptance.sdk_calls import APIS, FORMS, HELLO, Heard, ask, clients, heard

LARGE = [{"role": "user", "content": "x" * (33 << 20)}]
CONFLICT = "before/Conflict"
# What is wrong with a request, as arguments of an SDK's call, and the status that refuses it.
DOORS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "a body that is too large": (413, {"messages": LARGE}),
    "a head that is too large": (431, {"extra_headers": {"x-long": "a" * 40_000}}),
    "a host of somebody else": (421, {"extra_headers": {"Host": "elsewhere.example"}}),
    "a page of somebody else": (403, {"extra_headers": {"Origin": "http://elsewhere.example"}}),
    "a packed body": (415, {"extra_headers": {"Content-Encoding": "gzip"}}),
    "an expectation": (417, {"extra_headers": {"Expect": "gold"}}),
    "a message of a king": (422, {"messages": [{"role": "king", "content": "x"}]}),
    "no messages": (400, {"messages": []}),
}
# Anthropic's API has no 422.
ANTHROPICS = {422: 400}


def openai_chat(client: Any, arguments: dict[str, Any]) -> Any:
    return client.chat.completions.create(**{"model": CONFLICT, "messages": HELLO, **arguments})


def anthropic_chat(client: Any, arguments: dict[str, Any]) -> Any:
    return client.messages.create(**{"model": CONFLICT, "max_tokens": 9, "messages": HELLO, **arguments})


@pytest.fixture(scope="module")
def refused() -> dict[tuple[str, str, str], Heard]:
    """What came of them, by SDK, form and name."""
    calls: Mapping[str, Callable[[Any, dict[str, Any]], Any]] = {"openai": openai_chat, "anthropic": anthropic_chat}

    async def run() -> dict[tuple[str, str, str], Heard]:
        async with failing() as world, clients(world.url) as known:
            return {
                (sdk, form, name): await heard(
                    call, known[sdk, form], arguments, stream=False, blocking=form == "blocking"
                )
                for sdk, call in calls.items()
                for form in FORMS
                for name, (_, arguments) in DOORS.items()
            }

    return asyncio.run(run())


@pytest.mark.parametrize("name", DOORS)
def test_a_refusal_at_the_door_is_the_sdks_own_error(refused: dict[tuple[str, str, str], Heard], name: str) -> None:
    status = DOORS[name][0]
    for form in FORMS:
        openais, anthropics = (refused[sdk, form, name].error for sdk in ("openai", "anthropic"))
        assert isinstance(openais, openai.APIStatusError)
        assert openais.status_code == status
        assert openais.code
        assert openais.type
        assert openais.request_id
        assert isinstance(anthropics, anthropic.APIStatusError)
        assert anthropics.status_code == ANTHROPICS.get(status, status)
        assert anthropics.error_code
        assert anthropics.type
        assert anthropics.request_id


def test_ollamas_sdk_hears_refusals_too() -> None:
    async def run() -> list[Heard]:
        async with failing() as world, clients(world.url) as known:
            return [
                await heard(
                    lambda client: client.chat(model=CONFLICT, messages=LARGE),
                    known["ollama", form],
                    stream=False,
                    blocking=form == "blocking",
                )
                for form in FORMS
            ]

    for failed in asyncio.run(run()):
        assert isinstance(failed.error, ollama.ResponseError)
        assert (failed.error.status_code, failed.error.error) == (413, "the body is larger than 32 MiB")


WAITING = {"openai": "openai chat", "anthropic": "anthropic messages"}


@pytest.mark.parametrize("sdk", WAITING)
@pytest.mark.parametrize("form", FORMS)
def test_whoever_is_told_to_wait_comes_back(sdk: str, form: str) -> None:
    """After ten milliseconds, as the header says; by its own measure an SDK waits half a second or more."""
    model = f"once/RateLimited:{form}"

    async def run() -> tuple[Heard, int]:
        async with failing() as world:
            asked = ("whole", WAITING[sdk], model, form)
            told = await ask(world.url, [asked], max_retries=1)
            return told[asked], world.failures.asked[model]

    told, times = asyncio.run(run())
    assert told.error is None
    assert len(told.pieces) == 1
    assert times == 2


@pytest.mark.parametrize("sdk", WAITING)
@pytest.mark.parametrize("form", FORMS)
def test_whoever_has_used_up_his_quota_does_not_come_back(sdk: str, form: str) -> None:
    model = "before/QuotaExceeded"

    async def run() -> tuple[Heard, int]:
        async with failing() as world:
            asked = ("whole", WAITING[sdk], model, form)
            told = await ask(world.url, [asked], max_retries=3)
            return told[asked], world.failures.asked[model]

    told, times = asyncio.run(run())
    assert isinstance(told.error, openai.RateLimitError | anthropic.RateLimitError)
    assert times == 1


@pytest.mark.parametrize("sdk", WAITING)
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_and_an_error_tell_the_id_of_their_request(sdk: str, form: str) -> None:
    given = {"default_headers": {"x-request-id": "mine-1.2_3"}}

    async def run(**more: Any) -> list[Any]:
        async with failing() as world:
            fine, wrong = (("whole", WAITING[sdk], model, form) for model in ("once/Conflict", CONFLICT))
            told = await ask(world.url, [fine, fine, wrong], **more)
            return [told[fine].pieces[0]._request_id, told[wrong].error.request_id]  # type: ignore[union-attr]

    first, second = asyncio.run(run())
    assert first.startswith("req_")
    assert second.startswith("req_")
    assert first != second
    assert asyncio.run(run(**given)) == ["mine-1.2_3", "mine-1.2_3"]


@pytest.fixture(scope="module")
def gateways() -> dict[tuple[str, bool], httpx2.Response]:
    """What ``/chat`` answers, by the model's name and whether it was to stream."""

    async def run() -> dict[tuple[str, bool], httpx2.Response]:
        async with failing() as world, httpx2.AsyncClient(base_url=world.url) as client:
            return {
                (model, stream): await client.post("/chat", json={"message": "Hi", "model": model, "stream": stream})
                for kind in CLASSES
                for model in (f"before/{kind}", f"after/{kind}")
                for stream in (False, True)
            }

    return asyncio.run(run())


@pytest.mark.parametrize("kind", CLASSES)
def test_the_gateways_errors_are_details(gateways: dict[tuple[str, bool], httpx2.Response], kind: str) -> None:
    wanted = made(CLASSES[kind])
    for asked in ((f"before/{kind}", False), (f"before/{kind}", True), (f"after/{kind}", False)):
        answer = gateways[asked]
        assert (answer.status_code, answer.json()) == (wanted.status, {"detail": wanted.message})
        assert answer.headers.get("retry-after") == (None if wanted.retry_after is None else "7")
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_stream_of_the_gateway_ends_with_the_detail(
    gateways: dict[tuple[str, bool], httpx2.Response], kind: str
) -> None:
    answer = gateways[f"after/{kind}", True]
    said, failed, nothing = answer.text.split("\n\n")
    assert nothing == ""
    assert json.loads(said.removeprefix("data: "))["response"] == "Hello"
    assert json.loads(failed.removeprefix("data: ")) == {"detail": made(CLASSES[kind]).message}


def test_every_dialect_is_asked() -> None:
    """The words of the message survive all of them: quotes, a backslash, a letter that is not ASCII."""
    assert {api.sdk for api in APIS.values()} == {"ollama", "openai", "anthropic"}
    assert {'"', "\\", "é"} <= set(MESSAGE)
