"""Says to a registry who we are: answers its challenges, and keeps the tokens that this brings.

The rule (threat V-20): a secret goes to the registry it belongs to, or to an origin that the operator declared to stand
for it, and where a registry says that its token service is, is not such a declaration. A token is asked for once,
however many wait for it, and is said to nobody but the registry that wanted it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from math import inf

from msgspec import Struct
from yarl import URL

from localmodels.core.errors import Forbidden, Garbled, Unauthenticated
from localmodels.core.secrets import Secret
from localmodels.dialects.strict_json import parsed
from localmodels.registry.addresses import Origin, Place, parse_url
from localmodels.registry.challenges import Challenge, read_challenges
from localmodels.registry.credentials import Credentials, Login
from localmodels.registry.outbound import Answer, Outbound
from localmodels.registry.secrets import basic, bearer

MAX_TOKEN_ANSWER = 64 * 1024
# RFC 6750's token68; registries give signed ones of 1 to 4 KiB, and our own limit for a line of a head is 16 KiB.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{1,12288}=*")
# Seconds: what a token is good for where that is not said (distribution's token specification), and the most we
# believe. A token is given up a little before its end, since the request it is said in is still to travel.
LIFETIME, LONGEST, MARGIN = 60.0, 3600.0, 5.0

Key = tuple[Origin, str]


class _Held(Struct, frozen=True):
    """A header that a registry takes, until some moment of the clock."""

    header: Secret
    until: float


class _WireToken(Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = LIFETIME


class RegistryTokens:
    """The headers that registries take from us, by origin and scope.

    Args:
        credentials: asked when a registry challenges us, never before.
        clock: seconds, of any beginning.
    """

    def __init__(
        self, outbound: Outbound, credentials: Credentials, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._outbound = outbound
        self._credentials = credentials
        self._clock = clock
        self._held: dict[Key, _Held] = {}
        self._coming: dict[Key, asyncio.Task[_Held]] = {}

    def header(self, place: Place, scope: str) -> Secret | None:
        """What the registry took last time for this scope, while it is good."""
        held = self._held.get((place.origin, scope))
        return held.header if held is not None and self._clock() < held.until else None

    async def answer(self, place: Place, scope: str, challenge: Answer, said: Secret | None) -> Secret:
        """The header to say after a registry answered 401 to ``said``.

        Raises:
            Unauthenticated: it wants a login that we do not have, or does not take the one we have.
            Forbidden: it wants us to say our secrets elsewhere.
            LocalModelsError: its token service cannot be asked.
        """
        key = (place.origin, scope)
        if (held := self.header(place, scope)) is not None and held != said:
            return held  # somebody else has asked while we were on our way
        self._held.pop(key, None)
        task = self._coming.get(key)
        if task is None:
            wants = read_challenges(challenge.headers.getall("WWW-Authenticate", ()))
            task = self._coming[key] = asyncio.create_task(self._fetch(place, scope, wants))
            task.add_done_callback(lambda task: self._came(key, task))
        # One that stops waiting does not stop it for the others; it is short, and bounded by the door out.
        return (await asyncio.shield(task)).header

    def forget(self, origin: Origin) -> None:
        """Drops what a registry took, after a login or a logout."""
        self._held = {key: held for key, held in self._held.items() if key[0] != origin}

    def _came(self, key: Key, task: asyncio.Task[_Held]) -> None:
        self._coming.pop(key, None)
        # Each repository has a token of up to 12 KiB; those that are spent are not kept.
        self._held = {key: held for key, held in self._held.items() if self._clock() < held.until}
        if not task.cancelled() and task.exception() is None:
            self._held[key] = task.result()

    async def _fetch(self, place: Place, scope: str, wants: tuple[Challenge, ...]) -> _Held:
        login = await asyncio.to_thread(self._credentials.get, place.origin)
        by_scheme = {want.scheme: want for want in reversed(wants)}
        if (want := by_scheme.get("bearer")) is not None:
            return await self._token(place, scope, want, login)
        if "basic" not in by_scheme:
            raise Unauthenticated(f"{place.origin.host} wants a login of a kind that is neither Basic nor Bearer")
        if login is None:
            raise Unauthenticated(wanted(place.origin))
        return _Held(basic(login.username, login.password), inf)

    async def _token(self, place: Place, scope: str, want: Challenge, login: Login | None) -> _Held:
        url, scopes = service_of(place, want, scope)
        query = [("service", want.service)] * bool(want.service) + [("scope", one) for one in scopes]
        if login is not None:
            query.append(("account", login.username))
        async with self._outbound.open(
            "GET",
            url.extend_query(query),
            headers={"Accept": "application/json"},
            authorization=basic(login.username, login.password) if login else None,
            allowed=place.allowed,
            follow=False,
        ) as answer:
            if answer.status in {401, 403}:
                raise Unauthenticated(
                    f"{place.origin.host} does not take the login of {login.username!r}"
                    if login
                    else wanted(place.origin)
                )
            if answer.status != 200:
                raise Garbled(f"the token service of {place.origin.host} answered {answer.status}")
            return self._read(place, await answer.whole(MAX_TOKEN_ANSWER))

    def _read(self, place: Place, data: bytes) -> _Held:
        try:
            wire: _WireToken = parsed(data, _WireToken)
        except ValueError:
            # Without its cause, which could quote the token.
            raise Garbled(f"the token service of {place.origin.host} does not answer with a token") from None
        token = wire.token or wire.access_token
        if not _TOKEN.fullmatch(token):
            raise Garbled(f"the token service of {place.origin.host} gives a token that cannot be said in a header")
        lifetime = min(max(wire.expires_in, LIFETIME), LONGEST)
        return _Held(bearer(token), self._clock() + lifetime - MARGIN)


def service_of(place: Place, want: Challenge, scope: str) -> tuple[URL, tuple[str, ...]]:
    """The URL of the token service to ask, and for which scopes.

    A service at the registry's own origin may name the scopes it likes, since nobody else takes its tokens. One that
    serves several registries is asked for what we are about to do alone: else one of them could have us fetch, and hand
    to it, a token for another.

    Raises:
        Forbidden: the realm is neither at the registry's own origin nor at one that was declared for it.
    """
    try:
        url = parse_url(want.realm)
        origin = Origin.of(url)
    except Forbidden as error:
        raise Forbidden(f"{place.origin.host} names no token service: {error.message}") from error
    if place.origin.scheme == "https" and origin.scheme != "https":
        raise Forbidden(f"the token service of {place.origin.host} is on plain http, and would get secrets from https")
    if origin == place.origin:
        return url, want.scopes or (scope,) * bool(scope)
    if origin in place.trusted:
        return url, tuple(scope.split())
    raise Forbidden(
        f"{place.origin.host} wants our login sent to {origin}, which is not trusted; "
        f"if it is the registry's own, start the server with --trusted-origin {place.origin.host}={origin}"
    )


def pull_scope(repository: str) -> str:
    """To read a repository."""
    return f"repository:{repository}:pull"


def push_scope(repository: str, *mounted: str) -> str:
    """To write a repository, with blobs of others."""
    return " ".join([f"repository:{repository}:pull,push", *map(pull_scope, mounted)])


def wanted(origin: Origin) -> str:
    """That a registry wants a login, and how it gets one."""
    host = origin.host if origin.is_usual else f"{origin.host}:{origin.port}"
    plain = " --insecure" if origin.scheme == "http" else ""
    return f"{host} wants a login; log in to it first: localmodels login {host}{plain}"
