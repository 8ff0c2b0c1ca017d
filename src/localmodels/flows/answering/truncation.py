"""Which old turns to leave out when a conversation does not fit its context: pure decisions.

The contract: system messages stay, the newest whole turns stay, and nothing is dropped silently. A turn is a user
message with everything that answers it (assistant, tool calls, tool results), since half a turn misleads a model more
than none. The answer needs room too, so a conversation that must be shortened is shortened far enough for one.
"""

from __future__ import annotations

from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Message

# When turns are dropped at all, this share of the context is kept free for the answer unless num_predict asks for less.
ANSWER_SHARE = 4


def turns(messages: tuple[Message, ...]) -> tuple[tuple[int, ...], ...]:
    """Places of the messages of each turn, oldest first; system messages belong to none."""
    found: list[list[int]] = []
    for place, message in enumerate(messages):
        if message.role == "system":
            continue
        if message.role == "user" or not found:
            found.append([])
        found[-1].append(place)
    return tuple(tuple(turn) for turn in found)


def without_oldest(request: ChatRequest, count: int) -> tuple[ChatRequest, int]:
    """The request without its ``count`` oldest turns, and how many messages that left out."""
    dropped = {place for turn in turns(request.messages)[:count] for place in turn}
    kept = tuple(message for place, message in enumerate(request.messages) if place not in dropped)
    return replace(request, messages=kept), len(dropped)


def prompt_room(request: ChatRequest, context: int) -> int:
    """Most tokens that a shortened prompt may have, so that an answer fits behind it."""
    wanted = request.options.num_predict
    answer = context // ANSWER_SHARE
    if wanted is not None and 0 <= wanted < answer:
        answer = wanted
    return context - max(1, answer)
