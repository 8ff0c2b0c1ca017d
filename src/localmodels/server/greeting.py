"""What a server says when it accepts connections."""

from __future__ import annotations

import os
from typing import TextIO

import msgspec

import localmodels
from localmodels.core.secrets import Secret


def greet(
    out: TextIO, urls: list[str], *, as_json: bool, admin_key: Secret | None = None, require_key: bool = False
) -> None:
    """Tells where the server is, once it accepts connections; and, once in a home's life, its first key."""
    if as_json:
        said: dict[str, object] = {"url": urls[0], "urls": urls, "pid": os.getpid()}
        line = msgspec.json.encode(said | ({"admin_key": admin_key.reveal()} if admin_key else {})).decode()
    else:
        line = GREETING.format(version=localmodels.__version__, urls="\n  ".join(urls), url=urls[0])
        line += FIRST_KEY.format(who=ASKED if require_key else FREE, key=admin_key.reveal()) if admin_key else ""
    out.write(line + "\n")
    out.flush()


GREETING = """LocalModels {version} answers Ollama's, OpenAI's and Anthropic's API at
  {urls}
Try it:
  curl {url}/api/chat -d '{{"model": "localmodels", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
Stop it with Ctrl-C."""

FREE, ASKED = "Programs of this machine need no key.", "Everybody needs a key."
FIRST_KEY = """
{who} This one is for the administrator of this home; it is shown this once:
  {key}"""
