"""The dialects that a server speaks, by name."""

from __future__ import annotations

from collections.abc import Mapping

from localmodels.dialects.ollama import Ollama
from localmodels.dialects.openai import OpenAI
from localmodels.dialects.protocol import Dialect

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (Ollama(), OpenAI())}
