"""What is asked of the fleet: a server, a change of one or of a model, in both roles.

The rule: nothing is passed over. A field that nobody knows is named, and so is one that cannot be so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct
from msgspec.structs import asdict

from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.core.fleet import ModelChange, ServerChange
from localmodels.core.roster import Wish
from localmodels.dialects import strict_json
from localmodels.dialects.servers.checks import CHECKS, model_name, read_key

T = TypeVar("T")


class AskedServer(Struct, frozen=True, omit_defaults=True):
    """A server as somebody wants it. ``name`` and ``url`` are needed for a new one; null is as good as left out.

    Attributes:
        name: unique; 1 to 64 letters, digits, spaces and ``. _ -``. In lower case, with ``-`` for what else it holds,
            it stands before the names of the server's models.
        url: ``http://HOST:PORT`` or ``https://HOST``, perhaps with a path.
        api_version: what stands behind ``url`` in ``api_url``; ``v1`` where nobody says.
        kind: ``ollama`` where nobody says.
        capabilities: what it is for: ``general``, ``code``, …; ``auto:code`` looks for it.
        max_concurrent: requests that it gets at once.
        max_queue: requests that may wait for one of these places.
        priority: servers with a higher one are asked first.
        weight: how fast it is beside the others.
        is_default: the first choice where nothing else speaks for another; takes that from whoever was.
        first_byte: seconds of silence before an answer, or a duration such as ``30s``.
        idle: the same in the middle of one.
        key: sent to this server and to nobody else; empty takes it away.
    """

    name: str | None = None
    url: str | None = None
    api_version: str | None = None
    kind: str | None = None
    description: str | None = None
    capabilities: tuple[str, ...] | None = None
    max_concurrent: int | None = None
    max_queue: int | None = None
    priority: int | None = None
    weight: float | None = None
    is_default: bool | None = None
    is_active: bool | None = None
    first_byte: float | str | None = None
    idle: float | str | None = None
    key: str | None = None


class AskedModel(Struct, frozen=True, omit_defaults=True):
    """What of a model's row shall be another; null is as good as left out.

    Attributes:
        name: for people.
        capabilities: in place of what its server tells.
        priority: this copy before others of the same model.
        is_active: may it be asked?
    """

    name: str | None = None
    capabilities: tuple[str, ...] | None = None
    priority: int | None = None
    is_active: bool | None = None


class AskedRelease(Struct, frozen=True, omit_defaults=True):
    """How a model shall leave the graphics cards; ``keep_on_cpu`` is for our own engine."""

    keep_on_cpu: bool = False


_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_SERVER = msgspec.json.Decoder(AskedServer)
_MODEL = msgspec.json.Decoder(AskedModel)
_RELEASE = msgspec.json.Decoder(AskedRelease)


def read_server(body: bytes) -> Wish:
    """A new server as somebody wants it.

    Raises:
        InvalidRequest: no JSON object, or without ``name`` or ``url``.
        InvalidValue: a field that nobody knows, or that cannot be so; ``param`` names it.
    """
    wish = read_change(body)
    for field in ("name", "url"):
        if getattr(wish.said, field) is UNSET:
            raise InvalidRequest(f"{field} is required", param=field)
    return wish


def read_change(body: bytes) -> Wish:
    """What of a server shall be another; raises as :func:`read_server`, but for what is left out."""
    asked = _strict(body, _SERVER, AskedServer)
    said = {
        field: CHECKS[field](field, value)
        for field in AskedServer.__struct_fields__
        if field != "key" and (value := getattr(asked, field)) is not None
    }
    return Wish(said=ServerChange(**said), key=None if asked.key is None else read_key(asked.key))


def write_change(wish: Wish) -> bytes:
    """A new server, or what of one shall be another, as a client sends it."""
    said = {field: value for field, value in asdict(wish.said).items() if value is not UNSET and field != "reach"}
    return strict_json.encode(AskedServer(**said, key=None if wish.key is None else wish.key.reveal()))


def read_model_change(body: bytes) -> ModelChange:
    """What of a model's row shall be another; raises as :func:`read_change`."""
    asked = _strict(body, _MODEL, AskedModel)
    checks = {**CHECKS, "name": model_name}
    return ModelChange(**{
        field: checks[field](field, value)
        for field in AskedModel.__struct_fields__
        if (value := getattr(asked, field)) is not None
    })  # fmt: skip


def write_model_change(change: ModelChange) -> bytes:
    """The same, as a client sends it."""
    return strict_json.encode({field: value for field, value in asdict(change).items() if value is not UNSET})


def read_release(body: bytes) -> bool:
    """Shall our own engine go on with the model on the processor? A body that says nothing says no."""
    return _strict(body, _RELEASE, AskedRelease).keep_on_cpu if body.strip() else False


def write_release(*, keep_on_cpu: bool) -> bytes:
    """The same, as a client sends it."""
    return strict_json.encode(AskedRelease(keep_on_cpu))


def read_switch(query: Mapping[str, str], name: str) -> bool:
    """A switch in a query; off where it is left out.

    Raises:
        InvalidValue: it is neither on nor off.
    """
    text = query.get(name, "false").lower()
    if text not in _SWITCH:
        raise InvalidValue(f"{name} must be true or false, not {text[:40]!r}", param=name)
    return _SWITCH[text]


_SWITCH: Mapping[str, bool] = {"true": True, "1": True, "yes": True, "on": True,
                               "false": False, "0": False, "no": False, "off": False}  # fmt: skip


def _strict(body: bytes, decoder: msgspec.json.Decoder[T], shape: type[Struct]) -> T:
    fields = shape.__struct_fields__
    if unknown := [name for name in strict_json.read(body, _FIELDS) if name not in fields]:
        named = ", ".join(f"'{name[:40]}'" for name in unknown[:8])
        raise InvalidValue(f"nobody knows {named} here; there are {', '.join(fields)}", param=unknown[0][:40])
    return strict_json.read(body, decoder)
