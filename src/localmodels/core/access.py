"""Who asks, and what he may: values that the gate, the flows and the ledger agree on.

The rules: nothing here knows a key's text: a key is found by its hash, shown by its first and last characters, and
named in records by its id. And an error that knows more than everybody may hear is a :class:`Guarded` one: it says the
rest to those alone who may know it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from localmodels.core.errors import MOST_NAME, Forbidden, LocalModelsError, StoreFailed

# What a route asks for. `open` needs nobody, `known` anybody who has a key or needs none, `infer` everything that
# computes or counts tokens, `list` what can be seen of models, `manage` what changes them, `observe` metrics and the
# details of health, `admin` keys and everything else.
Grant = Literal["open", "known", "infer", "list", "manage", "observe", "admin"]
GRANTS: tuple[Grant, ...] = ("infer", "list", "manage", "observe", "admin")
USUAL: frozenset[Grant] = frozenset({"infer", "list"})
Period = Literal["ever", "day", "month"]
EVERY_MODEL = ("*",)
LATEST = ":latest"  # the tag of a name that has none


class Allowance(Struct, frozen=True):
    """What a key may use; None is without limit.

    Attributes:
        requests_per_minute: requests that may begin in a minute.
        tokens_per_minute: tokens of prompts and answers together.
        token_quota: tokens in a ``quota_period``, counted in UTC.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_quota: int | None = None
    quota_period: Period = "ever"


UNLIMITED = Allowance()


class Level(Struct, frozen=True):
    """One limit of a minute: what it allows, what is left, and the seconds until all of it is there again."""

    limit: int
    remaining: int
    reset: float


class Standing(Struct, frozen=True):
    """What a caller has left of his minute; None where he has no limit."""

    requests: Level | None = None
    tokens: Level | None = None


class Key(Struct, frozen=True):
    """A key as it is kept.

    Attributes:
        id: ``key_`` and 16 characters; what records name.
        name: the owner's word for it, unique.
        hash: SHA-256 of its text. 256 random bits need no slow hash.
        shown: its first and last characters, for people.
        scopes: what it may do; ``admin`` includes all others.
        models: patterns of the names of models that it may ask, ``*`` for any run of characters.
        weight: its share of a busy model, beside other keys'.
        created_at: nanoseconds since 1970, UTC; likewise ``expires_at`` and ``revoked_at``, None for never.
        created_by: id of the key that made it; empty for the command line.
    """

    id: str
    name: str
    hash: bytes
    shown: str
    scopes: frozenset[Grant] = USUAL
    models: tuple[str, ...] = EVERY_MODEL
    allowance: Allowance = UNLIMITED
    weight: int = 1
    created_at: int = 0
    created_by: str = ""
    expires_at: int | None = None
    revoked_at: int | None = None

    def alive(self, now: int) -> bool:
        """Does it open anything at this time (nanoseconds since 1970)?"""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Wish(Struct, frozen=True):
    """A key as somebody wants it; see :class:`Key`. Without ``models``: its maker's."""

    name: str
    scopes: frozenset[str] = USUAL
    models: tuple[str, ...] = ()
    allowance: Allowance = UNLIMITED
    weight: int = 1
    expires_at: int | None = None


class Caller(Struct, frozen=True):
    """Who asks. ``id`` is the key's, or the word for those who need none."""

    id: str
    name: str
    scopes: frozenset[Grant] = frozenset()
    models: tuple[str, ...] = EVERY_MODEL
    allowance: Allowance = UNLIMITED
    weight: int = 1

    def may(self, grant: Grant) -> bool:
        """May he use routes that ask for this?"""
        if grant == "known":
            return bool(self.scopes)
        return grant == "open" or grant in self.scopes or "admin" in self.scopes

    def may_ask(self, model: str) -> bool:
        """May he use this model, by the name under which it is listed? A pattern may leave out ``:latest``."""
        if self.models == EVERY_MODEL:
            return True
        names = {model, model.removesuffix(LATEST)}
        return any(_pattern(text).fullmatch(name) for text in self.models for name in names)


def check_model(caller: Caller, model: str, said: str | None = None) -> None:
    """Looks whether a caller may ask this model, by the name under which it is listed.

    Args:
        caller: who asks.
        model: by that name.
        said: his own word for it, where that may be another: what it stands for is not for him to know.

    Raises:
        Forbidden: his key is for other models.
    """
    if not caller.may_ask(model):
        raise not_for(model if said is None else said)


def not_for(said: str) -> Forbidden:
    """The refusal of a model that a key is not for: the same, whether there is one of this name or not."""
    which = f"model '{said[:MOST_NAME]}'" if said else "the model that answers where none is named"
    return Forbidden(f"this key may not use {which}", param="model")


class Guarded(LocalModelsError, ABC):
    """An error that says more to some than to others.

    By itself it says what anybody may hear, so that whoever forgets to ask to whom it goes tells too little, and never
    too much. Two ask: the flow through which a request for a model goes (``flows.answering.chat.permitted``), and, for
    all else, the application, which writes every error of an answer that has not begun.
    """

    @abstractmethod
    def told_to(self, caller: Caller) -> LocalModelsError:
        """The error for this caller."""


class Withheld(Guarded, Forbidden):
    """A failure of a model, which says that there is one: a refusal, to whoever may not ask for that model.

    Args:
        error: what failed.
        model: the name under which the model is listed.
        said: the caller's word for it.
    """

    def __init__(self, error: LocalModelsError, model: str, said: str) -> None:
        refusal = not_for(said)
        super().__init__(refusal.message, param=refusal.param)
        self._refusal = refusal
        self._error = error
        self._model = model

    def told_to(self, caller: Caller) -> LocalModelsError:
        """What failed, for who may ask for the model; for others the same as if there were none."""
        return self._error if caller.may_ask(self._model) else self._refusal


# Programs of this machine that need no key; everybody, where the owner said so: they may not make keys that would
# still be good when he says so no more; and those who have shown nothing.
LOCAL = Caller("local", "local", frozenset(GRANTS))
ANYBODY = Caller("anybody", "anybody", frozenset(GRANTS) - {"admin"})
STRANGER = Caller("", "")


class Unwritable(StoreFailed):
    """A row that no database takes, such as one with a number that is too large: trying again does not help."""


class Use(Struct, frozen=True):
    """What a key used of a model in one hour.

    Attributes:
        server: who answered; ``local`` is our own engine.
        hour: hours since 1970, UTC.
        requests: that ended, ``failed`` of them with an error.
        estimated: of the tokens, those that nobody counted: of answers that were cut or left.
    """

    key: str
    model: str
    server: str
    hour: int
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, more: Use) -> Use:
        """Both together, with the key, model, server and hour of this one."""
        return Use(
            self.key,
            self.model,
            self.server,
            self.hour,
            self.requests + more.requests,
            self.failed + more.failed,
            self.prompt_tokens + more.prompt_tokens,
            self.cached_tokens + more.cached_tokens,
            self.completion_tokens + more.completion_tokens,
            self.estimated + more.estimated,
        )


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    """A name with ``*`` for any run of characters; everything else stands for itself, whatever its case."""
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.IGNORECASE | re.DOTALL)
