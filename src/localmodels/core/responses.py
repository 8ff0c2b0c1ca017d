"""What of OpenAI's Responses API outlives its request: the value, and who keeps it.

The one rule: a response belongs to the caller who asked for it. To everybody else it is not there, whatever he knows of
its id. The items and the object are JSON of that API; whoever keeps them never looks inside.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
# In these it still changes; all others are final.
UNFINISHED: frozenset[Status] = frozenset({"queued", "in_progress"})


class StoredResponse(Struct, frozen=True):
    """A response as it is kept.

    Attributes:
        id: ``resp_`` and 32 characters.
        owner: id of the caller to whom it belongs.
        model: as the caller wrote it.
        previous_id: of the response that it goes on from; empty for the first of a conversation.
        created_at: nanoseconds since 1970, UTC; likewise ``completed_at``, None until it is final, and ``expires_at``,
            after which it is not there.
        input: JSON list of the items that the caller sent, each with an id; without those that came before.
        body: JSON of the whole object, with the items that the model said.
    """

    id: str
    owner: str
    model: str
    status: Status
    created_at: int
    expires_at: int
    input: bytes
    body: bytes
    previous_id: str = ""
    completed_at: int | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.input) + len(self.body)


class ResponseStore(Protocol):
    """Keeps responses. What has expired is not there, also before it is swept."""

    async def put(self, response: StoredResponse) -> None:
        """Keeps it; one of the same id and owner is replaced.

        Raises:
            LocalModelsError: it cannot be written.
        """
        ...

    async def get(self, id: str, owner: str) -> StoredResponse | None:  # noqa: A002
        """The owner's response of this id."""
        ...

    async def delete(self, id: str, owner: str) -> bool:  # noqa: A002
        """Takes it away; was it there?"""
        ...

    async def chain(self, id: str, owner: str, most: int) -> tuple[StoredResponse, ...]:  # noqa: A002
        """It and those that it goes on from, oldest first: as far as they are there, and the ``most`` latest."""
        ...

    async def unfinished(self) -> tuple[StoredResponse, ...]:
        """All that are queued or in progress, whoever owns them."""
        ...

    async def sweep(self) -> int:
        """Takes away what has expired, and the oldest of what is too much in all; how many that were."""
        ...
