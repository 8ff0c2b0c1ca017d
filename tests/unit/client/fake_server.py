"""A server in this process: the dialect's server role behind a mock transport, so that both roles test each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx2
import msgspec
from tests.unit.client.fake_fleet import FakeFleet
from tests.unit.client.fake_tasks import FakeTasks

from localmodels.client._async_calls import DIALECT
from localmodels.core.access import Key, Use
from localmodels.core.catalog import Description, Details, Model, Running
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Embeddings,
    EmbedRequest,
    Event,
    GenerateRequest,
    Timings,
    Usage,
)
from localmodels.core.errors import Conflict, Forbidden, LocalModelsError, ModelNotFound, Unsupported
from localmodels.core.library import (
    ABSENT,
    EVERY,
    FAILED,
    SUCCESS,
    CopyRequest,
    DeleteRequest,
    Described,
    Outcome,
    PartlyDone,
    Progress,
    PullRequest,
    partly_done,
)
from localmodels.core.options import Options
from localmodels.core.rerank import Ranked, Ranking
from localmodels.core.secrets import Secret
from localmodels.dialects import listing, management, rerank
from localmodels.dialects.ollama import library, unloading
from localmodels.dialects.protocol import EventWriter, Stamp

KEY = Key("key_1", "bob", bytes(32), "lm-abcd…wxyz", created_at=10**18)
TEXT = Secret("lm-abcd-wxyz")
USE = Use("key_1", "m:latest", "local", 490_000, requests=2, prompt_tokens=10)
STAMP = Stamp("id", "m:latest", 1_700_000_000_000_000_000)
MODEL = Model(
    name="m:latest",
    size=4_661_224_676,
    digest="a" * 64,
    modified_at="2026-01-01T10:00:00+00:00",
    details=Details(family="llama", families=("llama",), parameter_size="8.0B", quantization_level="Q4_K_M"),
    capabilities=("completion", "tools"),
    context_length=8192,
    embedding_length=4096,
)
RANKING = Ranking((Ranked(1, 0.75), Ranked(0, 0.25)), 12, Timings(9, 2))
RUNNING = Running(
    model=MODEL,
    status="running",
    pid=7,
    size=5_000_000_000,
    size_vram=0,
    expires_at="2026-01-01T12:05:00+00:00",
    context_length=4096,
)
DESCRIPTION = Description(
    model=MODEL,
    template="{{ .Prompt }}",
    system="Be brief.",
    license="MIT\nline 2\nline 3",
    modelfile="FROM m",
    adapters=("style", "tone"),
    options=Options(temperature=0.5, stop=("<end>",)),
    messages=(("user", "hi"),),
    info={"general.architecture": "llama", "llama.context_length": 8192},
)
DONE = Done(usage=Usage(20, 4, 5), timings=Timings(total=3 * 10**9, load=10**9, prompt_eval=10**9, eval=2 * 10**9))
EVENTS: tuple[Event, ...] = (Chunk(text="Hel"), Chunk(text="lo"), DONE)
STEPS_OF_ALL = (Progress("pulling manifest"), Progress("pulling a1", "sha256:a1", 10, 10), Progress("success"))
STEPS: Mapping[str, Callable[[bytes], object]] = {
    "/api/pull": library.read_pull,
    "/api/push": library.read_push,
    "/api/create": library.read_create,
}
CHANGES: Mapping[str, Callable[[bytes], CopyRequest | DeleteRequest]] = {
    "/api/copy": library.read_copy,
    "/api/delete": library.read_delete,
}


@dataclass
class FakeServer:
    """Answers as it is told; ``asked`` keeps every request. Streams are ``events``, whole answers always the same.

    It has the models ``known``, and gets those that it is told to pull where it ``pulls``.
    """

    models: tuple[Model, ...] = (MODEL,)
    running: tuple[Running, ...] = (RUNNING,)
    events: Iterable[Event] = EVENTS
    fails_with: LocalModelsError | None = None
    breaks_with: LocalModelsError | None = None
    cut_at: int | None = None
    interrupted: bool = False
    status: int = 200
    health: bytes = b'{"status": "healthy", "model_ready": true}'
    there: Callable[[httpx2.URL], bool] = lambda url: True
    steps: Iterable[Progress] = STEPS_OF_ALL
    blobs: dict[str, bytes] = field(default_factory=dict)
    library: list[object] = field(default_factory=list)
    asked: list[httpx2.Request] = field(default_factory=list)
    known: set[str] = field(default_factory=lambda: {"m"})
    pulls: bool = False
    why: str = ""  # said of a model that it has not
    keys: tuple[Key, ...] | None = (KEY,)  # None where the caller may not list them
    used: tuple[Use, ...] = (USE,)
    long: FakeTasks = field(default_factory=FakeTasks)
    fleet: FakeFleet = field(default_factory=FakeFleet)
    headers: dict[str, str] = field(default_factory=dict)  # of answers
    unloads_at: str = ""  # the server whose memory a model leaves when it is not said where
    elsewhere: dict[str, str] = field(
        default_factory=dict
    )  # models that are neither deleted nor unloaded here, and why
    lost: dict[str, str] = field(default_factory=dict)  # servers that fail, and why

    @property
    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self)

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.asked]

    @property
    def chat(self) -> ChatRequest:
        """The last question."""
        return DIALECT.read_chat(self._last(DIALECT.paths["chat"]))

    @property
    def generate(self) -> GenerateRequest:
        """The last text to go on with."""
        return DIALECT.read_generate(self._last(DIALECT.paths["generate"]))

    def _last(self, path: str) -> bytes:
        return next(request.content for request in reversed(self.asked) if request.url.path == path)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if not self.there(request.url):
            raise httpx2.ConnectError("refused")
        self.asked.append(request)
        path = request.url.path
        if path == "/health":
            return httpx2.Response(self.status, content=self.health)
        if self.fails_with is not None:
            return httpx2.Response(self.fails_with.status, content=DIALECT.write_error(self.fails_with))
        try:
            if (body := self.long.answer(request)) is not None:
                if not self.long.streams(request):
                    return httpx2.Response(200, content=body)
                return httpx2.Response(200, stream=Pieces(body[: self.cut_at], interrupted=self.interrupted))
            if (told := self.fleet.answer(request)) is not None:
                return httpx2.Response(told[0], content=told[1])
        except LocalModelsError as error:
            return httpx2.Response(error.status, content=DIALECT.write_error(error))
        return self._answer(request, path)

    def _answer(self, request: httpx2.Request, path: str) -> httpx2.Response:
        if path == DIALECT.paths["generate"] and (unload := unloading.read_unload(request.content)):
            return self._unloaded(unload)
        if path in {DIALECT.paths["chat"], DIALECT.paths["generate"]}:
            return self._events(request.content, chat=path == DIALECT.paths["chat"])
        if path in STEPS:
            wanted = STEPS[path](request.content)
            self.library.append(wanted)
            if self.pulls and isinstance(wanted, PullRequest):
                self.known.add(wanted.model)
            return httpx2.Response(200, stream=Pieces(self._steps(), interrupted=False))
        if path in CHANGES:
            return self._changed(CHANGES[path](request.content))
        if path.startswith("/api/keys"):
            return self._key(request)
        if path.startswith("/api/blobs/"):
            return self._blob(request, path.removeprefix("/api/blobs/"))
        if path == "/api/usage":
            return httpx2.Response(200, content=self._usage(request.url.params))
        if path == "/api/ps":
            return httpx2.Response(200, content=self._ps(request.url.params.get("server")))
        if path == DIALECT.paths["models"]:
            return httpx2.Response(200, content=listing.write_tags(self.models))
        return httpx2.Response(200, content=ANSWERS[path](request.content))

    def _changed(self, change: CopyRequest | DeleteRequest) -> httpx2.Response:
        if isinstance(change, DeleteRequest) and not change.servers and (why := self.elsewhere.get(change.model)):
            return httpx2.Response(409, content=DIALECT.write_error(Conflict(why)))
        self.library.append(change)
        if partly := partly_done(self._outcomes(change.servers)):
            return self._partly(partly)
        return httpx2.Response(200, content=library.write_outcomes(self._outcomes(change.servers)))

    def _unloaded(self, unload: unloading.Unload) -> httpx2.Response:
        self.library.append(unload)
        if partly := partly_done(self._outcomes(unload.servers)):
            return self._partly(partly)
        done = unloading.write_unloaded(unload.model, self._outcomes(unload.servers), chat=False)
        return httpx2.Response(200, content=done)

    def _outcomes(self, servers: Iterable[str]) -> tuple[Outcome, ...]:
        """It succeeds on all that are not lost."""
        return tuple(
            Outcome(server, "error" if server in self.lost else "success", self.lost.get(server, ""))
            for server in servers
        )

    @staticmethod
    def _partly(error: PartlyDone) -> httpx2.Response:
        return httpx2.Response(error.status, content=library.write_outcomes(error.outcomes, error.message))

    def _ps(self, server: str | None) -> bytes:
        there = tuple(row for row in self.running if server in {None, "*", row.server})
        silent = [Outcome("dead", "error", "it does not answer")] if server in {"*", "dead"} else []
        return listing.write_ps(there, silent)

    def _key(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            assert management.read_wish(request.content).name == KEY.name
            return httpx2.Response(200, content=management.write_made(KEY, TEXT, 0))
        if request.method == "DELETE":
            return httpx2.Response(200, content=management.write_key(KEY, 0))
        if self.keys is None:
            return httpx2.Response(403, content=DIALECT.write_error(Forbidden("this key may not")))
        return httpx2.Response(200, content=management.write_keys(self.keys, 0))

    def _usage(self, asked: Mapping[str, str]) -> bytes:
        since = management.read_since(asked["since"]) if "since" in asked else 0
        return management.write_usage(
            use for use in self.used if use.key == asked.get("key", use.key) and use.hour >= since
        )

    def _steps(self) -> bytes:
        written = b"".join(map(library.write_progress, self.steps))
        if self.breaks_with is not None:
            written += DIALECT.write_error(self.breaks_with) + b"\n"
        return written[: self.cut_at]

    def _blob(self, request: httpx2.Request, digest: str) -> httpx2.Response:
        if request.method == "HEAD":
            return httpx2.Response(200 if digest in self.blobs else 404)
        assert int(request.headers["content-length"]) == len(request.content)
        self.blobs[digest] = request.content
        return httpx2.Response(201)

    def _events(self, body: bytes, *, chat: bool) -> httpx2.Response:
        asked: ChatRequest | GenerateRequest = DIALECT.read_chat(body) if chat else DIALECT.read_generate(body)
        if asked.model not in self.known:
            missing = ModelNotFound(asked.model, self.why)
            return httpx2.Response(404, content=DIALECT.write_error(missing))
        if asked.keep_alive == 0 and (why := self.elsewhere.get(asked.model)):
            return httpx2.Response(400, content=DIALECT.write_error(Unsupported(why)))
        if self.unloads_at and asked.keep_alive == 0:
            self.running = tuple(row for row in self.running if row.server != self.unloads_at)
        if asked.stream:
            pieces = Pieces(self._written(self._writer(asked)), interrupted=self.interrupted)
            return httpx2.Response(200, headers=self.headers, stream=pieces)
        whole = Answer(DONE, "Hello")
        if isinstance(asked, ChatRequest):
            written = DIALECT.write_chat_answer(STAMP, asked, whole)
            return httpx2.Response(200, headers=self.headers, content=written)
        return httpx2.Response(200, content=DIALECT.write_generate_answer(STAMP, asked, whole))

    @staticmethod
    def _writer(asked: ChatRequest | GenerateRequest) -> EventWriter:
        if isinstance(asked, ChatRequest):
            return DIALECT.chat_writer(STAMP, asked)
        return DIALECT.generate_writer(STAMP, asked)

    def _written(self, writer: EventWriter) -> bytes:
        written = b"".join(writer.write(event) for event in self.events)
        if self.breaks_with is not None:
            written += writer.fail(self.breaks_with)
        return written[: self.cut_at]


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in pieces of 7 bytes, and may end in Ctrl-C."""

    def __init__(self, content: bytes, *, interrupted: bool) -> None:
        self._content = content
        self._interrupted = interrupted

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), 7):
            yield self._content[start : start + 7]
        if self._interrupted:
            raise KeyboardInterrupt

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        for piece in self:
            yield piece


def _embed(body: bytes) -> bytes:
    asked: EmbedRequest = DIALECT.read_embed(body)
    vectors = tuple((float(number), 0.5) for number, _ in enumerate(asked.inputs))
    return DIALECT.write_embeddings(STAMP, asked, Embeddings(vectors, prompt_tokens=3))


def _rerank(body: bytes) -> bytes:
    return rerank.write_ollama_answer(STAMP, rerank.read(body), RANKING)


def _detokenize(body: bytes) -> bytes:
    return msgspec.json.encode({"content": bytes(msgspec.json.decode(body)["tokens"]).decode()})


def _tokenize(body: bytes) -> bytes:
    return msgspec.json.encode({"tokens": list(msgspec.json.decode(body)["content"].encode())})


def _copies(servers: Sequence[str]) -> tuple[Described, ...]:
    """What several servers say, as one of them is down."""
    if len(servers) < 2 and not any(name == EVERY or "," in name for name in servers):
        return ()
    found = Described("local", SUCCESS, digest=DESCRIPTION.model.digest)
    return (found, Described("box", ABSENT), Described("dead", FAILED, "it does not answer"))


ANSWERS: Mapping[str, Callable[[bytes], bytes]] = {
    "/api/show": lambda body: listing.write_show(DESCRIPTION, _copies(json.loads(body).get("server", ()))),
    "/api/version": lambda body: b'{"version": "9.9.9"}',
    "/api/embed": _embed,
    "/api/rerank": _rerank,
    "/tokenize": _tokenize,
    "/detokenize": _detokenize,
}
