"""The SDK: how Python programs talk to a LocalModels server.

::

    from localmodels.client import ChatRequest, Client, user

    with Client() as client:
        for event in client.stream_chat(ChatRequest("smollm2", (user("Why is the sky blue?"),))):
            ...

Requests and answers are the values of ``localmodels.core``; errors are those of ``localmodels.core.errors``.
"""

from localmodels.client._async import AsyncClient
from localmodels.client._sync import Client
from localmodels.client.messages import system, user
from localmodels.client.wire import Health
from localmodels.core.chat import Answer, ChatRequest, Chunk, Done, EmbedRequest, Event, GenerateRequest, Message

__all__ = [
    "Answer",
    "AsyncClient",
    "ChatRequest",
    "Chunk",
    "Client",
    "Done",
    "EmbedRequest",
    "Event",
    "GenerateRequest",
    "Health",
    "Message",
    "system",
    "user",
]
