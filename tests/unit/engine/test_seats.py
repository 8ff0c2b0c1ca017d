"""Where adapters are switched, no slot is given what another one computed."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from tests.awaited import awaited

from localmodels.core.chat import ChatRequest, GenerateRequest, Lora, Message, Text
from localmodels.engine.seats import Seats, prompt_of

LONG = b"the same beginning " * 1000


class Nobody:
    """Stands where the runner is; nothing may be asked of it."""

    async def post(self, path: str, body: bytes) -> NoReturn:
        raise AssertionError(path)


async def prefill(slot: int) -> NoReturn:
    raise AssertionError(slot)


@awaited
async def test_without_sharing_nobody_waits_for_anybody() -> None:
    http: Any = Nobody()
    seats = Seats(http, 4, "nowhere", shares=False)
    together = asyncio.Barrier(4)

    async def one(number: int) -> int:
        async with seats.take(str(number), LONG + bytes(number), prefill) as seat:
            await together.wait()
            return seat.slot

    assert sorted(await asyncio.gather(*map(one, range(4)))) == [0, 1, 2, 3]


def test_prompts_under_other_adapters_have_no_beginning_in_common() -> None:
    loras = (None, (Lora(0, 1.0),), (Lora(0, 0.5),), (Lora(1, 1.0),))
    chat = [prompt_of(ChatRequest("m", (Message("user", (Text("hi"),)),), lora=lora)) for lora in loras]
    text = [prompt_of(GenerateRequest("m", "hi", raw=True, lora=lora)) for lora in loras]
    for prompts in (chat, text):
        assert len(set(prompts)) == 4
        assert not any(other.startswith(one) for one in prompts for other in prompts if one is not other)
