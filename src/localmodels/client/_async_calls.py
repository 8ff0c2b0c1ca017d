"""Every call about models and keys, written by hand in its asynchronous form; ``_sync_calls.py`` is generated from it.

Its rule: an answer is a value and a failure an error of ``core.errors``, whatever went wrong on the way. It speaks
Ollama's dialect, through the same codec with which the server reads. How bytes are carried is the business of a
:class:`AsyncCarrier`: the SDK's is httpx2, the command line has a lighter one, so nothing here imports an HTTP library.
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote

from msgspec.structs import replace

from localmodels.client import blobs, wire
from localmodels.core.access import Use, Wish
from localmodels.core.catalog import Description, Model, Running
from localmodels.core.chat import Answer, ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest
from localmodels.core.errors import Garbled
from localmodels.core.library import (
    EVERY,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Described,
    Outcome,
    Progress,
    PullRequest,
    PushRequest,
    Watcher,
    unwatched,
)
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.core.secrets import Secret
from localmodels.dialects import listing, management, rerank, told
from localmodels.dialects.management import ShownKey
from localmodels.dialects.ollama import Ollama, library, unloading
from localmodels.dialects.protocol import EventReader

DIALECT = Ollama()
GOOD = frozenset({200, 201})  # the second is of what was made
Servers = str | Sequence[str]


def named(server: Servers) -> tuple[str, ...]:
    """The servers, one by one."""
    return (server,) if server and isinstance(server, str) else tuple(server)


class AsyncReply(Protocol):
    """An answer whose head has come. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            BackendError: the connection broke or fell silent.
        """
        ...


class AsyncCarrier(Protocol):
    """Connections to one server."""

    url: str

    def open(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] | None,
        *,
        size: int | None = None,
        content_type: str = "",
    ) -> AbstractAsyncContextManager[AsyncReply]:
        """Sends a request; leaving the context closes what is still open of the answer.

        Args:
            method: of HTTP.
            path: below the server's address.
            body: JSON, or the pieces of a file of ``size`` bytes.
            size: of a body in pieces.
            content_type: of such a body; empty for bytes of no kind.

        Raises:
            BackendError: there is no answer.
        """
        ...

    async def aclose(self) -> None:
        """Gives back every connection."""
        ...


class AsyncCalls:
    """Speaks with one LocalModels server, or with an Ollama.

    Every method raises errors of ``localmodels.core.errors``: what the server said, ``Unreachable`` when it cannot be
    reached, ``BackendTimeout`` when it is silent for too long, ``StreamCut`` when an answer ends before its end.

    Where a method takes ``server``, that is the id or name of one of the server's servers, several of them, or ``*``
    for every one. Steps and outcomes then say whose they are. Where one of several has failed, ``PartlyDone`` is raised
    when all have come to their end; its ``outcomes`` say what became of each, and the call can be repeated as it is.
    """

    def __init__(self, carrier: AsyncCarrier) -> None:
        self.url = carrier.url
        self._carrier = carrier

    async def chat(self, request: ChatRequest) -> Answer:
        """Goes on with a conversation."""
        body = DIALECT.write_chat(replace(request, stream=False))
        return DIALECT.read_chat_answer(await self._post(DIALECT.paths["chat"], body))

    def stream_chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Goes on with a conversation; gives what arrives: chunks, then one ``Done``. Closing it stops the model."""
        body = DIALECT.write_chat(replace(request, stream=True))
        return self._stream(DIALECT.paths["chat"], body, DIALECT.chat_reader())

    async def generate(self, request: GenerateRequest) -> Answer:
        """Goes on with a text."""
        body = DIALECT.write_generate(replace(request, stream=False))
        return DIALECT.read_generate_answer(await self._post(DIALECT.paths["generate"], body))

    def stream_generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Goes on with a text; gives what arrives: chunks, then one ``Done``. Closing it stops the model."""
        body = DIALECT.write_generate(replace(request, stream=True))
        return self._stream(DIALECT.paths["generate"], body, DIALECT.generate_reader())

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors."""
        return DIALECT.read_embeddings(await self._post(DIALECT.paths["embed"], DIALECT.write_embed(request)))

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Puts texts in the order in which they answer a question; without a model the newest reranker does."""
        return rerank.read_answer(await self._post("/api/rerank", rerank.write(rerank.Question(request))))

    async def load(self, model: str, keep_alive: float | None = None) -> None:
        """Loads a model and returns when it is ready; ``keep_alive`` is seconds, negative for ever."""
        await self.generate(GenerateRequest(model, keep_alive=keep_alive))

    async def unload(self, model: str, *, server: Servers = ()) -> tuple[Outcome, ...]:
        """Takes a model out of memory once its answers are done; one that is not loaded is left as it is."""
        if not server:
            await self.generate(GenerateRequest(model, keep_alive=0.0))
            return ()
        return unloading.read_unloaded(await self._post("/api/generate", unloading.write_unload(model, named(server))))

    async def list(self) -> tuple[Model, ...]:
        """The models that can be asked."""
        return listing.read_tags(await self._get("/api/tags"))

    async def ps(self) -> tuple[Running, ...]:
        """The models in memory; of a fleet, each with its server."""
        return told.read_ps(await self._get("/api/ps"))

    async def running_on(self, server: Servers) -> tuple[tuple[Running, ...], tuple[Outcome, ...]]:
        """The models in the memory of these servers, which are asked now; and those that did not tell in time."""
        bodies = [await self._get(f"/api/ps?server={quote(name, safe='')}") for name in named(server)]
        running = tuple(row for body in bodies for row in told.read_ps(body))
        return running, tuple(one for body in bodies for one in listing.read_silent(body))

    async def show(self, model: str, *, verbose: bool = False, server: Servers = ()) -> tuple[Description, str]:
        """All about a model, and its parameters as text; ``verbose`` with tensors and vocabulary."""
        description, parameters, _ = await self.described(model, verbose=verbose, server=server)
        return description, parameters

    async def described(
        self, model: str, *, verbose: bool = False, server: Servers = EVERY
    ) -> tuple[Description, str, tuple[Described, ...]]:
        """The same, as the first of several servers tells it that has the model, and what each of them says.

        Where ``server`` means one alone (of a gateway without others that is every one) nothing is told by server.
        """
        asked = {"model": model, "verbose": verbose} | ({"server": named(server)} if server else {})
        return listing.read_show(await self._post("/api/show", wire.encode(asked)))

    def pull(self, model: str, *, insecure: bool = False, server: Servers = ()) -> AsyncGenerator[Progress, None]:
        """Fetches a model from its registry; gives how far it is. The model is there when the last step has come.

        Leaving the stream stops the download, unless others wait for it too; the next one goes on where it stopped.
        """
        return self._progress("/api/pull", library.write_pull(PullRequest(model, insecure, servers=named(server))))

    def push(self, model: str, *, insecure: bool = False, server: Servers = ()) -> AsyncGenerator[Progress, None]:
        """Sends a model to its registry; gives how far it is."""
        return self._progress("/api/push", library.write_push(PushRequest(model, insecure, servers=named(server))))

    def create(self, request: CreateRequest) -> AsyncGenerator[Progress, None]:
        """Makes a model of another one or of uploaded files (:meth:`upload`); gives how far it is."""
        return self._progress("/api/create", library.write_create(replace(request, stream=True)))

    async def finish(self, steps: AsyncGenerator[Progress, None], progress: Watcher = unwatched) -> None:
        """Runs a pull, a push or a creation to its end; ``progress`` is told each step.

        ::

            await client.finish(client.pull("qwen3:0.6b"), print)
        """
        async with aclosing(steps):
            async for step in steps:
                progress(step)

    async def copy(self, source: str, destination: str, *, server: Servers = ()) -> tuple[Outcome, ...]:
        """Gives a model a second name; a model that has it already loses it."""
        request = CopyRequest(source, destination, named(server))
        answer = await self._post("/api/copy", library.write_copy(request))
        return library.read_outcomes(answer) if server else ()

    async def delete(self, model: str, *, server: Servers = ()) -> tuple[Outcome, ...]:
        """Takes a name away, and with its last name the model."""
        body = library.write_delete(DeleteRequest(model, named(server)))
        async with self._carrier.open("DELETE", "/api/delete", body) as reply:
            answer = await self._good(reply)
        return library.read_outcomes(answer) if server else ()

    async def upload(self, file: Path | str, progress: Watcher = unwatched, *, digest: str = "") -> str:
        """Brings a file into the server's store, unless it is there already; its digest, for :meth:`create`.

        ``progress`` is told how far the file is read, then how far it is sent. Where the ``digest`` is known, the file
        is not read for it first; the server looks at it in any case.

        Raises:
            OSError: the file cannot be read.
        """
        with await to_thread(blobs.Source, file) as source:
            while not digest and await to_thread(source.learn):
                progress(source.progress("reading"))
            digest = digest or source.digest
            path = f"/api/blobs/{digest}"
            async with self._carrier.open("HEAD", path, None) as reply:
                if reply.status == 200:
                    progress(Progress(f"{source.name} is there already", digest))
                    return digest
                if reply.status != 404:
                    await self._good(reply)
            await to_thread(source.rewind)
            body = self._pieces(source, digest, progress)
            async with self._carrier.open("POST", path, body, size=source.size) as reply:
                if reply.status != 201:
                    await self._good(reply)
        return digest

    @staticmethod
    async def _pieces(source: blobs.Source, digest: str, progress: Watcher) -> AsyncIterator[bytes]:
        while data := await to_thread(source.read):
            yield data
            progress(source.progress("uploading", digest))

    async def version(self) -> str:
        """The server's version."""
        return wire.decode(await self._get("/api/version"), wire.Version).version

    async def health(self) -> wire.Health:
        """Would a request be answered now? Says so also when it would not."""
        async with self._carrier.open("GET", "/health", None) as reply:
            body = await self._whole(reply)
            if reply.status not in {200, 503}:
                raise DIALECT.read_error(reply.status, body)
            return wire.decode(body, wire.Health)

    async def tokenize(self, model: str, text: str, *, add_special: bool = False) -> tuple[int, ...]:
        """Token ids of a text; ``add_special`` with those that begin every prompt."""
        body = wire.encode({"model": model, "content": text, "add_special": add_special})
        return wire.decode(await self._post("/tokenize", body), wire.Tokens).tokens

    async def detokenize(self, model: str, tokens: Iterable[int]) -> str:
        """The text of token ids."""
        body = wire.encode({"model": model, "tokens": tuple(tokens)})
        return wire.decode(await self._post("/detokenize", body), wire.Content).content

    async def keys(self) -> tuple[ShownKey, ...]:
        """All keys of the server, without their texts; for administrators."""
        return management.read_keys(await self._get("/api/keys"))

    async def add_key(self, wish: Wish) -> tuple[ShownKey, Secret]:
        """Makes a key, and gives its text for the only time. It never may more than the key that asks for it."""
        return management.read_made(await self._post("/api/keys", management.write_wish(wish)))

    async def revoke_key(self, id: str) -> ShownKey:  # noqa: A002
        """Has a key open nothing any more."""
        async with self._carrier.open("DELETE", f"/api/keys/{quote(id, safe='')}", None) as reply:
            return management.read_key(await self._good(reply))

    async def usage(self, key: str | None = None, *, since: datetime | None = None) -> tuple[Use, ...]:
        """What keys used, by model, server and hour: one's own, or for those who may observe, of all.

        Args:
            key: the id of the one key whose usage it is.
            since: the hour of this moment is the first that is told; 30 days ago if None. One without a time zone is
                of this machine's.
        """
        return management.read_usage(await self._get(f"/api/usage{management.usage_query(key, since)}"))

    async def aclose(self) -> None:
        """Gives back every connection."""
        await self._carrier.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _get(self, path: str) -> bytes:
        async with self._carrier.open("GET", path, None) as reply:
            return await self._good(reply)

    async def _post(self, path: str, body: bytes) -> bytes:
        async with self._carrier.open("POST", path, body) as reply:
            return await self._good(reply)

    async def _stream(self, path: str, body: bytes, reader: EventReader) -> AsyncGenerator[Event, None]:
        async with self._carrier.open("POST", path, body) as reply:
            if reply.status not in GOOD:
                await self._good(reply)
            async for data in reply.pieces():
                for event in reader.feed(data):
                    yield event
            reader.close()

    async def _progress(self, path: str, body: bytes) -> AsyncGenerator[Progress, None]:
        reader = library.ProgressReader()
        async with self._carrier.open("POST", path, body) as reply:
            if reply.status not in GOOD:
                await self._good(reply)
            async for data in reply.pieces():
                for step in reader.feed(data):
                    yield step
            reader.close()

    async def _good(self, reply: AsyncReply) -> bytes:
        """The body of an answer that says yes; raises the error that any other one says."""
        body = await self._whole(reply)
        if reply.status in GOOD:
            return body
        if 300 <= reply.status < 400:
            raise Garbled(f"{self.url} sends us elsewhere; give the address that answers itself")
        partly = library.read_partly_done(body)
        raise partly or DIALECT.read_error(reply.status, body, wire.retry_after(reply.headers))

    async def _whole(self, reply: AsyncReply) -> bytes:
        body = bytearray()
        async for piece in reply.pieces():
            body += piece
            if len(body) > wire.MAX_ANSWER:
                raise Garbled(f"the answer of {self.url} is larger than {wire.MAX_ANSWER >> 20} MiB")
        return bytes(body)
