"""Which template a model answers with: its maker's Go template, or the Jinja one in its GGUF file.

The rule is Ollama's, so that a model answers here as it does there: the Go template, unless the file's own shows more
of what the model can do, or Ollama itself would not use it. In one thing it goes further: a template that was given
when the model was made here is always used, since somebody meant it.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from localmodels.artifacts.chat_template import ChatTemplate, read_chat_template
from localmodels.artifacts.gguf_header import Header
from localmodels.core.errors import InvalidRequest

REMEMBERED = 128
# Written into the config of a model that was made here with a template of its own.
MADE_HERE = "create"
# With both of them a template is Harmony, OpenAI's format of gpt-oss, which is no matter of tags around thoughts.
_HARMONY = ("<|start|>", "<|message|>")


class Template(Struct, frozen=True):
    """A Go template that was read; or, with ``chat`` None, why it cannot be: ``damage`` names the line."""

    chat: ChatTemplate | None = None
    damage: str = ""


NONE = Template()


class Templates:
    """Templates, each read once: many models have the same."""

    def __init__(self) -> None:
        self._read = lru_cache(maxsize=REMEMBERED)(_read)

    def chosen(self, source: str, header: Header, *, made_here: bool = False, rendered: bool = False) -> Template:
        """The Go template that a model answers with; ``NONE`` where it is the one in its file.

        Args:
            source: the Go template, empty if there is none.
            header: of the model's file.
            made_here: was it given when the model was made here?
            rendered: does Ollama make this model's prompts with code of its own?
        """
        if not source:
            return NONE
        if not made_here and header.chat_template:
            if rendered or all(mark in source for mark in _HARMONY):
                return NONE
            template = self._read(source)
            return NONE if template.chat and shows_more(header, template.chat) else template
        return self._read(source)


def shows_more(header: Header, template: ChatTemplate) -> bool:
    """Can the model do more by its file's own template? Also: does that one alone have a place for past tool calls?"""
    own = {"tools", "thinking"}.intersection(header.capabilities())
    given = {"tools", "thinking"}.intersection(template.capabilities)
    return own > given or (own == given and "tools" in own and "toolcalls" not in template.names)


def _read(source: str) -> Template:
    try:
        return Template(read_chat_template(source))
    except InvalidRequest as error:
        return Template(damage=error.message)
