"""Texts that nobody may find again (threat V-36), and a server that has all of them.

Each canary stands for one kind of secret, so that one that is found tells what leaked. They are spelled so that neither
JSON nor a URL writes them in another way.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
from msgspec import Struct, field
from tests.acceptance.serving import PATIENCE, Served, serve
from tests.adapters import write_adapter
from tests.hostile.sound import NOBODY
from tools.random_model import write_random_model

PROMPTS = {
    "prompt": "CANARYprompt4711",
    "system": "CANARYsystem4712",
    "answer": "CANARYanswer4713",
    "tool": "CANARYtool4714",
    "picture": "CANARYpicture4715",
    "schema": "CANARYschema4716",
    "stored system": "CANARYstored4717",
}
SECRETS = {
    "a key": "lm-CANARYcaller4721",
    "a server's key": "sk-CANARYserver4722",
    "the hub's token": "hf_CANARYhub4723",
    "a query": "CANARYquery4724",
    "a cookie": "CANARYcookie4725",
    "a password": "CANARYpassword4726",
}
ADAPTER = "CANARYadapter4731"
EVERY: Mapping[str, str] = {**PROMPTS, **SECRETS}


def found_in(text: str | bytes, canaries: Mapping[str, str] = EVERY) -> list[str]:
    """Which of them stand in it, as they are or in base64."""
    data = text.encode() if isinstance(text, str) else text
    return [
        name
        for name, canary in canaries.items()
        if canary.encode() in data or any(form in data for form in _in_base64(canary.encode()))
    ]


def _in_base64(canary: bytes) -> list[bytes]:
    """What base64 makes of it, wherever in the bytes it begins; without the letters that its neighbours change."""
    return [base64.b64encode(b"\0" * shift + canary)[4 if shift else 0 : -4] for shift in range(3)]


class Upstream:
    """A server of OpenAI's API that knows our key, and says it wherever it can."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Its address."""
        keys = self.keys

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in STATUSES]})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                keys.append(key := self.headers.get("authorization", ""))
                said = f"{key} is no key of ours"
                fault = {"message": said, "type": key, "code": key, "param": key}
                self.answer(STATUSES[asked["model"]], {"error": fault})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.send_header("x-request-id", self.headers.get("authorization", "-"))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


# How the models of the other server answer: all badly, in another way each.
STATUSES = {"refuses": 401, "forbids": 403, "objects": 400, "limits": 429, "breaks": 500, "says-no-error": 200}


class Run(Struct):
    """What came back.

    Attributes:
        errors: bodies and heads of all answers that were refusals.
        children: environments and command lines of everything that the server has started.
        heard: the keys that the other server was sent.
        statuses: of all answers.
    """

    errors: list[bytes] = field(default_factory=list)
    children: list[bytes] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    metrics: str = ""
    admin_key: str = ""


def sung(directory: Path) -> Run:
    """Asks a server in every dialect, well and badly, with a canary wherever one can stand.

    The home, ``home``, and what the server wrote meanwhile, ``log`` and ``tmp``, are left in the directory.
    """
    home, tmp = directory / "home", directory / "tmp"
    home.mkdir(mode=0o700)
    tmp.mkdir()
    model = write_random_model(directory / "tiny.gguf", end_bias=3.0)
    adapter = write_adapter(directory / f"{ADAPTER}.gguf", seed=1)
    (home / "secret").write_text(SECRETS["a server's key"])
    (home / "secret").chmod(0o600)
    environ = {"HF_TOKEN": SECRETS["the hub's token"], "THEIR_KEY": SECRETS["a server's key"], "TMPDIR": str(tmp)}
    flags = ("--model", f"tiny={model}", "--default-model", "tiny", "--log-level", "debug", "--log-format", "json")
    upstream, run = Upstream(), Run()
    with upstream.listening() as url:
        (home / "localmodels.toml").write_text(
            f'[[servers]]\nname = "far"\nurl = "{url}"\nkind = "openai"\nkey_env = "THEIR_KEY"\n'
            f'[[servers]]\nname = "near"\nurl = "{url}"\nkind = "llamacpp"\nkey_file = "secret"\n'
            f'[[servers]]\nname = "gone"\nurl = "{NOBODY}"\nkind = "openai"\nkey_file = "secret"\nmodels = ["x"]\n'
        )
        with serve(*flags, "--hf-endpoint", url, home=home, log=directory / "log", environ=environ) as served:
            run.admin_key = served.admin_key
            made(served, adapter)
            for method, path, body in requests():
                ask(served, run, method, path, body)
            for child in served.runners():
                for name in ("environ", "cmdline"):
                    run.children.append(Path(f"/proc/{child.pid}/{name}").read_bytes())
            for child in served.runners():
                child.kill()
            ask(served, run, "POST", "/api/chat", body_of({"model": "tiny", "messages": said(), "stream": False}))
            run.metrics = served.get("/metrics").text
    run.heard = upstream.keys
    return run


def made(served: Served, adapter: Path) -> None:
    """A model with an adapter and a system prompt of its own."""
    data = adapter.read_bytes()
    digest = f"sha256:{sha256(data).hexdigest()}"
    httpx2.post(f"{served.url}/api/blobs/{digest}", content=data, timeout=PATIENCE).raise_for_status()
    parts = {"from": "tiny", "adapters": {adapter.name: digest}, "system": PROMPTS["stored system"]}
    served.post("/api/create", model="styled", stream=False, **parts).raise_for_status()


def body_of(value: object) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


def said(role: str = "user") -> list[dict[str, Any]]:
    """A conversation."""
    return [
        {"role": "system", "content": PROMPTS["system"]},
        {"role": role, "content": PROMPTS["prompt"]},
        {"role": "assistant", "content": PROMPTS["answer"]},
        {"role": "user", "content": PROMPTS["prompt"]},
    ]


Request = tuple[str, str, bytes | None]  # method, address, body


def requests() -> Iterator[Request]:
    """All of them."""
    models = ("tiny", "styled", "gone/x", *(f"{server}/{name}" for server in ("far", "near") for name in STATUSES))
    for model, stream in product(models, (False, True)):
        yield from conversations(model, stream=stream)
    for path in (*PATHS, "/tokenize", "/api/generate"):
        for body in BROKEN:
            yield "POST", path, body % PROMPTS["prompt"].encode()
    prompt, answer = PROMPTS["prompt"], PROMPTS["answer"]
    asked = {"model": "tiny", "prompt": prompt, "template": PROMPTS["system"]}
    yield "POST", "/api/generate", body_of(asked)
    yield "POST", "/api/embed", body_of({"model": "tiny", "input": [prompt], "dimensions": -1})
    yield "POST", "/v1/rerank", body_of({"model": "tiny", "query": prompt, "documents": [answer]})
    yield "POST", "/api/pull", body_of({"model": "hf.co/x/y", "stream": False})
    for path in ("/api/tags", "/health?verbose=1", "/nothing", "/api/chat", "/v1/models", "/openapi.json"):
        yield "GET", f"{path}{'&' if '?' in path else '?'}api_key={SECRETS['a query']}", None


PATHS = ("/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses", "/chat")
BROKEN = (b'{"prompt": "%b"', b'{"model": "%b", "x": 1, "x": 1}', b'{"prompt": "%b\\ud800"}', b'["%b"]', b'"%b"', b"%b")


def conversations(model: str, *, stream: bool) -> Iterator[Request]:
    """With a model, in every dialect, well and badly."""
    picture = base64.b64encode(PROMPTS["picture"].encode()).decode()
    function = {"name": "f", "description": PROMPTS["tool"], "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    schema = {"type": "object", "properties": {PROMPTS["schema"]: {"type": "string"}}}
    few, prompt, system = {"num_predict": 4}, PROMPTS["prompt"], PROMPTS["system"]
    chat = {"model": model, "messages": said(), "stream": stream}
    block = {"role": "user", "content": [{"type": "nobody", "text": prompt}]}
    ollama: tuple[dict[str, Any], ...] = (
        {"options": few, "tools": tools},
        {"options": few, "format": schema},
        {"messages": [{**said()[1], "images": [picture]}]},
        {"messages": said("nobody")},
        {"options": {"num_ctx": 16}, "truncate": False},
        {"lora": [{"name": ADAPTER}]},
    )
    openai: tuple[dict[str, Any], ...] = (
        {"max_tokens": 4, "tools": tools},
        {"max_tokens": 4, "response_format": {"type": "nobody"}},
        {"messages": prompt},
    )
    for path, some in (("/api/chat", ollama), ("/v1/chat/completions", openai)):
        for extra in some:
            yield "POST", path, body_of({**chat, **extra})
    yield "POST", "/v1/messages", body_of({**chat, "max_tokens": 4, "messages": said()[1:], "system": system})
    yield "POST", "/v1/messages", body_of({**chat, "max_tokens": 4, "messages": [block]})
    asked: dict[str, Any] = {"model": model, "input": prompt, "instructions": system, "stream": stream, "store": False}
    yield "POST", "/v1/responses", body_of({**asked, "max_output_tokens": 4})
    yield "POST", "/chat", body_of({"model": model, "message": prompt, "stream": stream, "max_tokens": 4})


def ask(served: Served, run: Run, method: str, path: str, body: bytes | None) -> None:
    """One of them, with secrets in its head."""
    headers = {
        "authorization": f"Bearer {SECRETS['a key']}",
        "cookie": f"session={SECRETS['a cookie']}",
        "proxy-authorization": f"Basic {base64.b64encode(SECRETS['a password'].encode()).decode()}",
    }
    answer = httpx2.request(method, served.url + path, content=body, headers=headers, timeout=PATIENCE)
    run.statuses.append(answer.status_code)
    if answer.status_code >= 400 or b'"error":{' in answer.content or b'"error":"' in answer.content:
        run.errors.append(str(answer.headers.multi_items()).encode() + answer.content)
