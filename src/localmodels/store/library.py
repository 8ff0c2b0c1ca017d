"""All models of this server under one roof: lists them, and finds one by whatever name a client writes.

The rule: a name leads to the model that was meant, or to ``ModelNotFound``; never to some other model instead. In
order: the name as written (a missing tag is ``latest``), the only tag of that name, a configured alias, ``llama`` for
the default model; then all of it again without the prefix that a client puts before names; then again without regard
to case. Of two shelves that hold the same name, the earlier wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec import Struct

from localmodels.artifacts.gguf import read_array
from localmodels.core.catalog import Description, Model, ModelName
from localmodels.core.errors import Conflict, InvalidValue, ModelDamaged, ModelNotFound, NotFound
from localmodels.store.entries import Damaged, Entry, capabilities, describe, to_model, untold
from localmodels.store.shelves import Shelf

PREFIXES = ("ollama/", "ollama_chat/", "openai/", "localmodels/")
DEFAULT_ALIAS = ModelName.parse("llama")


class Survey(Struct, frozen=True):
    """What stood on the shelves at one moment: usable models, newest first, and the damaged ones."""

    entries: tuple[Entry, ...]
    damaged: tuple[Damaged, ...]


class Library:
    """Every model that this server can see. Each call looks at the disk: call it in a thread.

    Args:
        shelves: in order of precedence.
        default: the configured default model, by any name that :meth:`find` understands; None chooses one.
        aliases: other names for models; a target is not itself looked up among the aliases.
    """

    def __init__(
        self, shelves: Sequence[Shelf], *, default: str | None = None, aliases: Mapping[str, str] | None = None
    ) -> None:
        self._shelves = tuple(shelves)
        self.adopt(default=default, aliases=aliases)

    def adopt(self, *, default: str | None, aliases: Mapping[str, str] | None) -> None:
        """Goes by these names from now on."""
        self._default = default
        self._aliases = {ModelName.parse(alias): target for alias, target in (aliases or {}).items()}

    def survey(self) -> Survey:
        """Looks at all shelves."""
        entries: dict[ModelName, Entry] = {}
        damaged: dict[str, Damaged] = {}
        for item in (item for shelf in self._shelves for item in shelf.list()):
            if isinstance(item, Damaged):
                damaged.setdefault(item.name, item)
            else:
                entries.setdefault(item.name, item)
        newest = sorted(entries.values(), key=lambda entry: (entry.modified_at, entry.name), reverse=True)
        return Survey(tuple(newest), tuple(damaged.values()))

    def list(self) -> tuple[Entry, ...]:
        """All usable models, newest first."""
        return self.survey().entries

    def damaged(self) -> tuple[Damaged, ...]:
        """What stands on a shelf and cannot be used, with the reasons."""
        return self.survey().damaged

    def models(self) -> tuple[Model, ...]:
        """All usable models as a list shows them, newest first."""
        return tuple(map(to_model, self.list()))

    def describe(self, text: str, *, verbose: bool = False) -> Description:
        """Everything about one model, with ``verbose`` also the token texts; errors as :meth:`find`."""
        entry = self.find(text)
        return describe(entry, read=partial(read_array, entry.model_path) if verbose else untold)

    def find(self, text: str) -> Entry:
        """The model that ``text`` names.

        Raises:
            ModelNotFound: nothing has this name, or several tags have it and none is ``latest``.
            ModelDamaged: the model is there and cannot be used.
        """
        return self._resolve(text, self._aliased)

    def unnamed(self) -> Entry:
        """The model that answers where none is named: the default one.

        Raises:
            NotFound: there is none.
        """
        if entry := self.default():
            return entry
        raise ModelNotFound(self._default) if self._default else NotFound("there is no model here", param="model")

    def named(self, text: str) -> Entry:
        """The model of this name, but for the case of letters: who changes, sends or deletes guesses nothing.

        Raises:
            ModelNotFound: nothing has this name.
            ModelDamaged: the model is there and cannot be used.
        """
        name = ModelName.parse(text)
        if (entry := self._exact(name)) is not None:
            return entry
        survey = self.survey()
        for entry in survey.entries:
            if _folded(entry.name) == _folded(name):
                return entry
        for damaged in survey.damaged:
            if damaged.name.lower() == str(name).lower():
                raise ModelDamaged(f"model '{damaged.name}' cannot be used: {damaged.why}")
        raise ModelNotFound(text)

    def require_seen(self, name: ModelName) -> None:
        """Looks whether a model of our own store would be found by this name.

        Raises:
            Conflict: a shelf that comes before has that name.
        """
        for shelf in self._shelves:
            if shelf.source == "home":
                return
            try:
                there = shelf.find(name) is not None
            except ModelDamaged:
                there = True
            if there:
                raise Conflict(
                    f"{name} is a file that was named with --model, and would hide a model of this name; "
                    "choose another name, or start the server without that file",
                    param="model",
                )

    def default(self) -> Entry | None:
        """The default model: the configured one (None if it is not here), else the newest that writes text.

        The built-in model is the default only where there is no other.
        """
        return self._default_in(self.survey())

    def default_name(self) -> str:
        """The default model's name, as configured where it is; empty if there is no model."""
        if self._default is not None:
            return self._default
        entry = self.default()
        return str(entry.name) if entry else ""

    def _resolve(self, text: str, alias: Alias) -> Entry:
        readings = _readings(text)
        entry = self._exact(readings[0].name) if readings else None
        if entry is not None:  # nearly every request: no need to look at all the shelves
            return entry
        survey = self.survey()
        for fold in (_as_written, _folded):
            for reading in readings:
                entry = _match(survey, reading, fold) or alias(survey, fold(reading.name), fold)
                if entry is not None:
                    return entry
        raise ModelNotFound(text)

    def _exact(self, name: ModelName) -> Entry | None:
        for shelf in self._shelves:
            try:
                entry = shelf.find(name)
            except ModelDamaged:
                continue  # another shelf may have it whole; if none has, the survey tells why
            if entry is not None:
                return entry
        return None

    def _aliased(self, survey: Survey, name: ModelName, fold: Fold) -> Entry | None:
        for alias, target in self._aliases.items():
            if fold(alias) == name:
                return self._target(target)
        return self._default_in(survey) if name == DEFAULT_ALIAS else None

    def _target(self, text: str) -> Entry | None:
        try:
            return self._resolve(text, _no_alias)
        except ModelNotFound:
            return None

    def _default_in(self, survey: Survey) -> Entry | None:
        if self._default is not None:
            targets = [
                self._aliases[reading.name] for reading in _readings(self._default) if reading.name in self._aliases
            ]
            return next(filter(None, map(self._target, (self._default, *targets))), None)
        writers = [entry for entry in survey.entries if "completion" in capabilities(entry)]
        return next((entry for entry in writers if entry.source != "builtin"), next(iter(writers), None))


Fold = Callable[[ModelName], ModelName]
Alias = Callable[[Survey, ModelName, Fold], Entry | None]


class _Reading(Struct, frozen=True):
    """One way to read what a client wrote; ``tagged`` if it said which tag it means."""

    name: ModelName
    tagged: bool


def _readings(text: str) -> list[_Reading]:
    bare = [text.removeprefix(prefix) for prefix in PREFIXES if text.startswith(prefix)]
    readings = []
    for spelling in (text, *bare):
        try:
            name = ModelName.parse(spelling)
        except InvalidValue:
            continue
        readings.append(_Reading(name, tagged=spelling.endswith(f":{name.tag}")))
    return readings


def _match(survey: Survey, reading: _Reading, fold: Fold) -> Entry | None:
    """The model of this name, or of this name's only tag.

    Raises:
        ModelDamaged: the model of this name cannot be used; its other tags are not what was asked for.
    """
    wanted = fold(reading.name)
    for entry in survey.entries:
        if fold(entry.name) == wanted:
            return entry
    for damaged in survey.damaged:
        if damaged.name == str(reading.name):
            again = "" if damaged.source == "file" else "; pull or create it again"
            raise ModelDamaged(f"model '{damaged.name}' cannot be used: {damaged.why}{again}")
    tags = [entry for entry in survey.entries if _untagged(fold(entry.name)) == _untagged(wanted)]
    return tags[0] if len(tags) == 1 and not reading.tagged else None


def _as_written(name: ModelName) -> ModelName:
    return name


def _folded(name: ModelName) -> ModelName:
    return ModelName(name.host.lower(), name.namespace.lower(), name.name.lower(), name.tag.lower())


def _untagged(name: ModelName) -> tuple[str, str, str]:
    return name.host, name.namespace, name.name


def _no_alias(_survey: Survey, _name: ModelName, _fold: Fold) -> None:
    return None
