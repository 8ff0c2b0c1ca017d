"""Who sits in which slot of one runner: the effects around :mod:`localmodels.engine.slots`.

A request takes a seat before it is sent. Where its long prompt begins like that of a request under way, it waits here
until that prefix is in the cache and gets a copy of it: the engine would compute the prefix once for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from localmodels.backends.http import Http
from localmodels.core.chat import ChatRequest, GenerateRequest, Image, Message
from localmodels.core.errors import LocalModelsError
from localmodels.engine.slots import Arrive, Copied, Copy, Leave, Prefill, PrefillDone, Run, SlotDecision, SlotTable

_ENCODER = msgspec.json.Encoder()
NEVER = 2**62  # bytes of prompt that no two requests have in common


class Seat:
    """A request's place. ``computed`` is set by whoever sees the first token: the slot then holds the whole prompt."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.computed = False


class Seats:
    """The slots of one runner.

    Args:
        http: to the runner.
        slot_dir: where it saves slots.
        shares: may a slot be given what another one computed? Not where adapters are switched: a runner remembers with
            which ones a slot computed, and a copy does not tell it.
    """

    def __init__(self, http: Http, parallel: int, slot_dir: str, *, shares: bool = True) -> None:
        self._http = http
        self._slot_dir = Path(slot_dir)
        self._table = SlotTable(parallel) if shares else SlotTable(parallel, long=NEVER)
        self._turns: dict[str, asyncio.Future[Prefill | Run]] = {}
        self._copies: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def take(
        self, request_id: str, prompt: bytes, prefill: Callable[[int], Awaitable[None]]
    ) -> AsyncIterator[Seat]:
        """A slot for one request, for as long as it is answered.

        Args:
            request_id: by which it is known here.
            prompt: what the request begins with, see ``slots``.
            prefill: computes the prompt in a slot and generates nothing.
        """
        computed = False
        try:
            self._expect(request_id)
            self._do(self._table.handle(Arrive(request_id, prompt)))
            turn = await self._turns[request_id]
            if isinstance(turn, Prefill):
                await prefill(turn.slot)
                self._expect(request_id)
                self._do(self._table.handle(PrefillDone(request_id)))
                turn = await self._turns[request_id]
            seat = Seat(turn.slot)
            try:
                yield seat
            finally:
                computed = seat.computed
        finally:
            self._turns.pop(request_id, None)
            self._do(self._table.handle(Leave(request_id, computed)))

    def _expect(self, request_id: str) -> None:
        self._turns[request_id] = asyncio.get_running_loop().create_future()

    def _do(self, decisions: Iterable[SlotDecision]) -> None:
        for decision in decisions:
            if isinstance(decision, Copy):
                task = asyncio.create_task(self._copy(decision))
                self._copies.add(task)
                task.add_done_callback(self._copies.discard)
            elif not (turn := self._turns[decision.request_id]).done():
                turn.set_result(decision)  # a request cancelled in this turn of the loop leaves in a moment

    async def _copy(self, copy: Copy) -> None:
        """Saves one slot and restores it into others. A copy that fails costs time, never an answer."""
        name = f"slot-{copy.source}-{copy.targets[0]}"
        saved = await self._act(copy.source, "save", name)
        for target in copy.targets:
            ok = saved and await self._act(target, "restore", name)
            self._do(self._table.handle(Copied(target, ok)))
        (self._slot_dir / name).unlink(missing_ok=True)

    async def _act(self, slot: int, action: str, name: str) -> bool:
        try:
            await self._http.post(f"/slots/{slot}?action={action}", _ENCODER.encode({"filename": name}))
        except LocalModelsError:
            return False
        return True


def prompt_of(request: ChatRequest | GenerateRequest) -> bytes:
    """Bytes that begin alike where two requests' prompts do: what the template puts first comes first."""
    adapters = _ENCODER.encode(request.lora) if request.lora else b""  # what others computed is of no use to it
    if isinstance(request, GenerateRequest):
        prompt = request.prompt.encode() if isinstance(request.prompt, str) else _ENCODER.encode(request.prompt)
        before = (request.context, request.suffix, [sha256(image.data).hexdigest() for image in request.images])
        return adapters + (_ENCODER.encode(before) + prompt if any(before) else prompt)
    head = (request.tools, request.tool_choice, request.format, request.think)
    return adapters + _ENCODER.encode(head) + b"".join(map(_message, request.messages))


def _message(message: Message) -> bytes:
    parts = [sha256(part.data).digest() if isinstance(part, Image) else part.text.encode() for part in message.parts]
    calls = _ENCODER.encode((message.thinking, message.tool_calls, message.tool_call_id, message.tool_name))
    return b"\n".join((message.role.encode(), *parts, calls if message.tool_calls or message.tool_name else b""))
