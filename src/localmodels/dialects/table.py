"""The dialects that a server speaks, by name.

``DIALECTS`` are whole: chats, plain texts, vectors, lists. ``CHATS`` are all that conversations are held in.
"""

from __future__ import annotations

from collections.abc import Mapping

from localmodels.dialects.anthropic import Anthropic
from localmodels.dialects.ollama import Ollama
from localmodels.dialects.openai import OpenAI
from localmodels.dialects.protocol import ChatDialect, Dialect
from localmodels.dialects.responses import Responses

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (Ollama(), OpenAI())}
CHATS: Mapping[str, ChatDialect] = {**DIALECTS, "responses": Responses(), "anthropic": Anthropic()}
