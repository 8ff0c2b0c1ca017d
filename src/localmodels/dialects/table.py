"""The dialects that a server speaks, by name; what a dialect is like is said by itself.

``DIALECTS`` are whole: chats, plain texts, vectors, lists. ``CHATS`` are the APIs in which conversations are held, here
and by other servers. ``SPOKEN`` are all that a row may name. ``WAYS`` are how answers pass untouched, where they can.
"""

from __future__ import annotations

from collections.abc import Mapping

from localmodels.dialects.anthropic import Anthropic
from localmodels.dialects.gateway import Gateway
from localmodels.dialects.management import Management
from localmodels.dialects.ollama import Ollama
from localmodels.dialects.openai import OpenAI
from localmodels.dialects.peek import Way
from localmodels.dialects.plain import Plain
from localmodels.dialects.protocol import ChatDialect, Dialect, Spoken
from localmodels.dialects.responses import Responses
from localmodels.dialects.servers import FleetDialect
from localmodels.dialects.tasks import TaskDialect

GATEWAY = Gateway()
PLAIN = Plain()
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (Ollama(), OpenAI())}
CHATS: Mapping[str, ChatDialect] = {**DIALECTS, "responses": Responses(), "anthropic": Anthropic()}
_OWN: tuple[Spoken, ...] = (GATEWAY, Management(), TaskDialect(), FleetDialect(), PLAIN)
SPOKEN: Mapping[str, Spoken] = {**CHATS, **{dialect.name: dialect for dialect in _OWN}}
WAYS: Mapping[str, Way] = {name: dialect.way for name, dialect in CHATS.items() if dialect.way}
