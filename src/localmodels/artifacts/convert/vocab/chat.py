"""The chat template of a folder. It may stand in four places; the rule is transformers': a file of its own wins."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from localmodels.artifacts.convert.vocab.files import Files
from localmodels.artifacts.convert.vocab.special import CONFIG
from localmodels.artifacts.gguf_rules import LONGEST_TEMPLATE
from localmodels.core.errors import ModelDamaged

FILE = "chat_template.jinja"
OLD_FILE = "chat_template.json"
OTHERS = "additional_chat_templates"
USUAL = "default"
MOST_TEMPLATES = 32
_LONGEST_NAME = 64


def read_templates(files: Files) -> dict[str, str]:
    """Templates by name; the usual one is ``default``.

    Raises:
        ModelDamaged: one is not a text, or larger than any template is.
    """
    found = _written(files)
    if not found:
        found = _configured(files.read_object(CONFIG).get("chat_template"), CONFIG)
    if not found:
        found = _configured(files.read_object(OLD_FILE).get("chat_template"), OLD_FILE)
    if len(found) > MOST_TEMPLATES:
        raise ModelDamaged(f"{CONFIG}: {len(found)} chat templates, at most {MOST_TEMPLATES} are possible")
    for name, template in found.items():
        if len(template.encode(errors="replace")) > LONGEST_TEMPLATE:
            raise ModelDamaged(f"the chat template {name!r:.60} is longer than {LONGEST_TEMPLATE >> 20} MiB")
    return found


def _written(files: Files) -> dict[str, str]:
    found = {USUAL: files.read_text(FILE)} if files.has(FILE) else {}
    for name in files.names:
        path = PurePosixPath(name)
        if path.parent.as_posix() == OTHERS and path.suffix == ".jinja" and len(found) <= MOST_TEMPLATES:
            found[path.stem[:_LONGEST_NAME]] = files.read_text(name)
    return found


def _configured(said: Any, where: str) -> dict[str, str]:
    if said is None:
        return {}
    if isinstance(said, str):
        return {USUAL: said}
    if not isinstance(said, list):
        raise ModelDamaged(f"{where}: 'chat_template' must be a text or a list of templates, not {said!r:.60}")
    found: dict[str, str] = {}
    for entry in said:
        name, template = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(template, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise ModelDamaged(
                f"{where}: 'chat_template' must list templates with 'name' and 'template': {entry!r:.60}"
            )
        found[name] = template
    return found
