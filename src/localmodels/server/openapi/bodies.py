"""What each route takes and gives: the types that its codec decodes and encodes, by path and method.

A route without an entry here has no description, and no entry stands for itself: :func:`.document.document` refuses
both, and a test asks it about every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from localmodels.dialects import deploys, gateway, listing, management, rerank, routing, servers, tasks
from localmodels.dialects.anthropic import wire as anthropic
from localmodels.dialects.ollama import library
from localmodels.dialects.ollama import wire as ollama
from localmodels.dialects.openai import wire as openai
from localmodels.dialects.responses import wire as responses
from localmodels.server import tokens
from localmodels.server.listings import AskedShow
from localmodels.server.own_headers import IGNORED_ITEMS, IGNORED_OPTIONS, IGNORED_TOOLS, TRUNCATED

JSON, NDJSON, SSE, TEXT, BYTES = (
    "application/json",
    "application/x-ndjson",
    "text/event-stream",
    "text/plain",
    "application/octet-stream",
)
FORM = "multipart/form-data"


class Stream(Struct, frozen=True):
    """An answer in pieces.

    Attributes:
        media: content type of all of it.
        piece: type of a line, or of the data of an event.
        end: data of the event that ends a whole answer, where that is no JSON.
    """

    media: str
    piece: Any
    end: str = ""


class Body(Struct, frozen=True):
    """One operation.

    Attributes:
        takes: type of the request's body; None for none.
        gives: type of the whole answer; None for an empty one, or one that is only streamed.
        stream: the streamed form; None where there is none.
        query: what may stand in the query, by name, and its type.
        media: content type of the whole answer.
        upload: does the body hold bytes instead of JSON?
        form: type of the fields of a form that is sent instead of JSON.
        success: status of the answer; 0 where there are only refusals.
        asks: is a model asked though the row has no operation, so that the answer names its server?
        tells: headers of our own, as :mod:`.own_headers` has them, by which an answer tells what was not heeded.
    """

    takes: Any = None
    gives: Any = None
    stream: Stream | None = None
    query: Mapping[str, Any] = {}
    media: str = JSON
    upload: bool = False
    form: Any = None
    success: int = 200
    asks: bool = False
    tells: tuple[bytes, ...] = ()


class Version(Struct):
    """The version of this server, and what it calls itself among gateways."""

    version: str
    gateway: str


class ResponseEvent(Struct):
    """An event of a response, by its number in the stream; what else it holds goes by its type."""

    type: str
    sequence_number: int


_RERANK = rerank.Answer | tuple[rerank.BareResult, ...]
_MODEL = listing.OpenAIModel | anthropic.Model
_MODELS = listing.OpenAIModels | anthropic.Models

_MESSAGE = (
    anthropic.MessageStart
    | anthropic.BlockStart
    | anthropic.BlockDelta
    | anthropic.BlockStop
    | anthropic.MessageDelta
    | anthropic.MessageStop
    | anthropic.Ping
    | anthropic.Failure
)

# What a stream breaks with is one of its pieces.
_LINES, _PROGRESS, _STEPS = (Stream(NDJSON, piece) for piece in (ollama.Line, library.Line, tasks.Line))
_CHUNKS, _PIECES = Stream(SSE, openai.Written | openai.Failure, "[DONE]"), Stream(SSE, gateway.Piece, "[DONE]")
_EVENTS, _BLOCKS = Stream(SSE, ResponseEvent), Stream(SSE, _MESSAGE)

_TOLD = (TRUNCATED, IGNORED_OPTIONS)
_WITH_TOOLS = (*_TOLD, IGNORED_TOOLS)

_CHAT = Body(gateway.Ask, gateway.Piece, _PIECES, tells=_TOLD)
_SERVER, _HOLDER = Body(gives=servers.ShownServer), Body(gives=servers.ShownHolder, query={"server_url": str})
# Each also with a slash behind it.
_FLEET: Mapping[str, Mapping[str, Body]] = {
    "/api/servers": {
        "GET": Body(gives=servers.ShownServers, query={"active_only": bool}),
        "POST": Body(servers.AskedServer, servers.ShownServer, success=201),
    },
    "/api/servers/{server_id}": {
        "GET": _SERVER,
        "PUT": Body(servers.AskedServer, servers.ShownServer),
        "DELETE": _SERVER,
    },
    "/api/servers/{server_id}/discover": {"POST": Body(gives=servers.ShownDiscovery)},
    "/api/servers/{server_id}/models": {"GET": Body(gives=servers.ShownModels)},
    "/api/models/servers": {"GET": Body(gives=servers.ShownServers)},
    "/api/models/server/models": {"GET": _HOLDER},
    "/api/models/{model_id}": {
        "GET": Body(gives=servers.ShownModel),
        "PUT": Body(servers.AskedModel, servers.ShownModel),
        "DELETE": Body(gives=servers.ShownModel),
    },
    "/api/models/{model_id}/check-availability": {"POST": Body(gives=servers.ShownAvailability)},
    "/api/models/{model_id}/unload": {"POST": Body(gives=servers.ShownUnload)},
    "/api/models/{model_id}/unload-from-gpu": {"POST": Body(servers.AskedRelease, servers.ShownRelease)},
    "/api/route": {"GET": Body(gives=routing.ShownRoute, query={"model": str, "capability": str, "session": str})},
}
FLEET = {path + slash: bodies for path, bodies in _FLEET.items() for slash in ("", "/")}

BODIES: Mapping[str, Mapping[str, Body]] = {
    "/": {"GET": Body(gives=dict[str, Any]), "HEAD": Body(media=TEXT)},
    "/health": {"GET": Body(gives=dict[str, Any], query={"verbose": str})},
    "/metrics": {"GET": Body(gives=str, media=TEXT)},
    "/openapi.json": {"GET": Body(gives=dict[str, Any])},
    "/docs": {"GET": Body(gives=str, media="text/html")},
    "/api/chat": {"POST": Body(ollama.Chat, ollama.Line, _LINES, tells=_TOLD)},
    "/api/generate": {"POST": Body(ollama.Generate, ollama.Line, _LINES, tells=_TOLD)},
    "/api/embed": {"POST": Body(ollama.Embed, ollama.Embedded)},
    "/api/embeddings": {"POST": Body(ollama.LegacyEmbed, ollama.LegacyEmbedded)},
    "/api/rerank": {"POST": Body(rerank.Rerank, rerank.OllamaAnswer)},
    "/api/tags": {"GET": Body(gives=listing.Tags), "HEAD": Body()},
    "/api/show": {
        "GET": Body(gives=listing.Show, query={"model": str, "name": str, "verbose": str, "server": str}),
        "POST": Body(AskedShow, listing.Show),
    },
    "/api/ps": {"GET": Body(gives=listing.Processes, query={"server": str})},
    "/api/version": {"GET": Body(gives=Version), "HEAD": Body()},
    "/api/pull": {"POST": Body(library.Transfer, library.Line, _PROGRESS)},
    "/api/push": {"POST": Body(library.Transfer, library.Line, _PROGRESS)},
    "/api/create": {"POST": Body(library.Create, library.Line, _PROGRESS)},
    "/api/copy": {"POST": Body(library.Copy, library.Told)},
    "/api/delete": {"DELETE": Body(library.Delete, library.Told)},
    "/api/blobs/{digest}": {"HEAD": Body(), "POST": Body(upload=True, success=201)},
    "/api/keys": {"GET": Body(gives=management.ShownKeys), "POST": Body(management.AskedKey, management.MadeKey)},
    "/api/keys/{id}": {"DELETE": Body(gives=management.ShownKey)},
    "/api/usage": {"GET": Body(gives=management.ShownUsage, query={"since": str, "key": str})},
    "/api/tasks": {"GET": Body(gives=tasks.ShownTasks, query={"state": str, "limit": str})},
    "/api/tasks/{uuid}": {"GET": Body(gives=tasks.ShownTask), "DELETE": Body(gives=tasks.ShownTask)},
    "/api/tasks/{uuid}/events": {"GET": Body(stream=_STEPS, query={"after": str})},
    "/api/tasks/{uuid}/retry": {"POST": Body(stream=_STEPS)},
    "/v1/chat/completions": {"POST": Body(openai.Chat, openai.Written, _CHUNKS, tells=_TOLD)},
    "/v1/completions": {"POST": Body(openai.Complete, openai.Written, _CHUNKS, tells=(IGNORED_OPTIONS,))},
    "/v1/embeddings": {"POST": Body(openai.Embed, openai.Embedded)},
    "/v1/models": {"GET": Body(gives=_MODELS, query={"limit": str, "after_id": str, "before_id": str})},
    "/v1/models/{id:path}": {"GET": Body(gives=_MODEL)},
    "/v1/responses": {"POST": Body(responses.Asked, responses.Response, _EVENTS, tells=(*_WITH_TOOLS, IGNORED_ITEMS))},
    "/v1/responses/input_tokens": {"POST": Body(responses.Asked, responses.Counted, asks=True)},
    "/v1/responses/compact": {"POST": Body(dict[str, Any], success=0)},
    "/v1/responses/{id}": {
        "GET": Body(
            gives=responses.Response, stream=_EVENTS, query={"stream": str, "starting_after": str, "include": str}
        ),
        "DELETE": Body(gives=responses.Deleted),
    },
    "/v1/responses/{id}/cancel": {"POST": Body(gives=responses.Response)},
    "/v1/responses/{id}/input_items": {
        "GET": Body(gives=responses.Listed, query={"after": str, "limit": str, "order": str})
    },
    "/v1/messages": {"POST": Body(anthropic.Request, anthropic.Written, _BLOCKS, tells=_WITH_TOOLS)},
    "/v1/messages/count_tokens": {"POST": Body(anthropic.Request, anthropic.Count, asks=True)},
    "/v1/rerank": {"POST": Body(rerank.Rerank, _RERANK)},
    "/v2/rerank": {"POST": Body(rerank.Rerank, _RERANK)},
    "/rerank": {"POST": Body(rerank.Rerank, _RERANK)},
    "/models": {"GET": Body(gives=gateway.Listed)},
    "/models/": {"GET": Body(stream=_STEPS), "DELETE": Body(deploys.Delete, stream=_STEPS)},
    "/models/upload/": {"POST": Body(stream=_STEPS, form=deploys.UploadForm)},
    "/models/create/": {"POST": Body(deploys.Create, stream=_STEPS)},
    "/models/deploy/": {"POST": Body(stream=_STEPS, form=deploys.DeployForm)},
    "/chat": {"POST": _CHAT},
    "/chat/{model_name:path}": {"POST": _CHAT},
    **FLEET,
    "/tokenize": {"POST": Body(tokens.Tokenize, tokens.Tokenized, asks=True)},
    "/detokenize": {"POST": Body(tokens.Detokenize, tokens.Content, asks=True)},
}
