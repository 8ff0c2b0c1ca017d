"""What a model says besides its weights: the small blobs and the config of one that is made. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from localmodels.core.errors import InvalidValue
from localmodels.core.library import CreateRequest
from localmodels.core.options import OPTIONS
from localmodels.store.entries import Entry
from localmodels.store.manifests import MAX_LAYERS, TEXT_BYTES, write_messages, write_parameters
from localmodels.store.templates import MADE_HERE

# The rest of a manifest's layers is for weights, projectors and adapters.
MOST_TEXTS = MAX_LAYERS // 2
# Kinds of layers, as requests call them.
_PARAM = {kind: kind for kind in ("template", "system", "messages", "license")} | {"params": "parameters"}


def texts_of(request: CreateRequest, base: Entry | None) -> list[tuple[str, bytes]]:
    """Kind and bytes of each small blob: what was asked for, over what the base has.

    Raises:
        InvalidValue: more or longer texts than a model's reader takes.
    """
    template = request.template if request.template is not None else base.template if base else ""
    system = request.system if request.system is not None else base.system if base else ""
    messages = request.messages if request.messages is not None else base.messages if base else ()
    licenses = request.license if request.license is not None else base.license if base else ()
    parameters = {**(parameters_of(base) if base else {}), **dict(request.parameters)}
    texts = [
        *((("template", template.encode()),) if template else ()),
        *((("system", system.encode()),) if system else ()),
        *((("params", write_parameters(parameters)),) if parameters else ()),
        *((("messages", write_messages(messages)),) if messages else ()),
        *(("license", text.encode()) for text in licenses if text),
    ]
    sizes = Counter[str]()
    for kind, data in texts:
        sizes[kind] += len(data)
        if sizes[kind] > TEXT_BYTES:
            raise InvalidValue(f"{_PARAM[kind]} may have at most {TEXT_BYTES >> 20} MiB", param=_PARAM[kind])
    if len(texts) > MOST_TEXTS:
        raise InvalidValue(f"license: at most {MOST_TEXTS} texts, not {len(texts)}", param="license")
    return texts


def kept_of(request: CreateRequest, base: Entry | None) -> dict[str, str]:
    """What the config says besides: what was asked for, else what the base has; and whose the template is."""
    names = ("renderer", "parser", "requires")
    kept = {name: getattr(request, name) or (getattr(base, name) if base else "") for name in names}
    return {**kept, "template_by": MADE_HERE if request.template else base.template_by if base else ""}


def parameters_of(entry: Entry) -> dict[str, Any]:
    """A model's own parameters, those that we have no use for too."""
    ours = {name: value for name in OPTIONS if (value := getattr(entry.options, name)) is not None}
    return {**ours, **dict(entry.other_options)}
