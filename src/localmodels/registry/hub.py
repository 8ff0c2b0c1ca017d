"""The HTTP interface of Hugging Face's hub, request by request, as documented and as its own client speaks it.

Three requests are enough to fetch a model: the list of a repository's files at its newest commit, with sizes and
digests; where a mirror does not tell those, the head of a file; and bytes of a file at that commit. The rule is that of
``distribution``: a method is one request and what its answer means, and nothing is tried again here. The token of a
place is said to its origin and to no other: the storage that a file's request leads to never sees it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn
from urllib.parse import quote

from msgspec import Struct
from yarl import URL

from localmodels.core.catalog import ModelName
from localmodels.core.errors import Forbidden, Garbled, NotFound, Unauthenticated
from localmodels.core.secrets import Secret
from localmodels.dialects.strict_json import parsed
from localmodels.registry.addresses import SAME, Origin, Place, repository
from localmodels.registry.credentials import Credentials
from localmodels.registry.distribution import OCTETS, number, retry_after
from localmodels.registry.hub_files import File
from localmodels.registry.outbound import Answer, Outbound
from localmodels.registry.secrets import bearer
from localmodels.registry.verdicts import status_error

# V-22's bound for JSON. The largest repositories of GGUF files have some hundred, at 300 bytes each.
MAX_LISTING = 32 * 2**20
MAX_FILES = 100_000
MAX_PATH = 1024
# What is not in LFS comes in one piece. The hub takes no file above 10 MB into git itself.
MAX_SMALL = 32 * 2**20
WHO = "/api/whoami-v2"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ETAG = re.compile(r'(?:W/)?"?([0-9A-Za-z\-]{1,200})"?')


class Repository(Struct, frozen=True):
    """A repository as it was at one commit."""

    commit: str
    files: tuple[File, ...]


class _WireLfs(Struct):
    sha256: str = ""
    size: int | None = None


class _WireFile(Struct, rename={"blob_id": "blobId"}):
    rfilename: str
    size: int | None = None
    blob_id: str | None = None
    lfs: _WireLfs | None = None


class _WireRepository(Struct):
    sha: str
    siblings: list[_WireFile] = []


class HubTokens:
    """Which token is said to which origin.

    Args:
        logins: as for registries; the password is the token, and the name of the user has no use here.
        given: by origin, for whoever names none in a login.
    """

    def __init__(self, logins: Credentials, given: Mapping[Origin, Secret] | None = None) -> None:
        self._logins = logins
        self._given = dict(given or {})

    async def header(self, origin: Origin) -> Secret | None:
        """What is said to this origin; None if nothing is."""
        token = self._given.get(origin)
        for one in SAME.get(origin, (origin,)):
            if token is None and (login := await asyncio.to_thread(self._logins.get, one)) is not None:
                token = login.password
        return bearer(token.reveal()) if token is not None else None


class Hub:
    """Speaks to hubs through one door."""

    def __init__(self, outbound: Outbound, tokens: HubTokens) -> None:
        self._outbound = outbound
        self._tokens = tokens

    async def check(self, place: Place, token: Secret) -> None:
        """Asks whether a hub takes a token, keeping nothing.

        Raises:
            Unauthenticated: it does not.
            LocalModelsError: it cannot be asked.
        """
        async with self._outbound.open(
            "GET", place.url(WHO), authorization=bearer(token.reveal()), allowed=place.allowed
        ) as answer:
            if answer.status == 401:
                raise Unauthenticated(f"{place.origin.host} does not take the token")
            if answer.status != 200:
                raise status_error(answer.status, "place to ask who a token belongs to", retry_after(answer.headers))

    async def repository(self, place: Place, name: ModelName) -> Repository:
        """The files of a repository at its newest commit.

        Raises:
            NotFound: there is none, or none that we may see.
            LocalModelsError: the hub cannot be asked, or what it says makes no sense.
        """
        url = place.url(f"/api/models/{repository(name)}/revision/main", {"blobs": "true"})
        async with self._ask(place, "GET", url, {"Accept": "application/json"}) as answer:
            if answer.status != 200:
                refuse(answer, place, name, "")
            # A list as long as that takes a while to read.
            return await asyncio.to_thread(read_repository, await answer.whole(MAX_LISTING))

    async def complete(self, place: Place, name: ModelName, commit: str, file: File) -> File:
        """The file with its size and digest, from its head, where the listing did not tell them.

        Raises:
            LocalModelsError: the hub does not tell them either.
        """
        if file.size >= 0 and (file.sha256 or file.git_id):
            return file
        # What lies in LFS is told by the hub itself, before it leads elsewhere; the rest at the end of the way.
        for follow in (False, True):
            async with self._ask(place, "HEAD", _resolve(place, name, commit, file), follow=follow) as answer:
                if answer.status >= 400:
                    refuse(answer, place, name, file.path)
                if (told := _told(file, answer)) is not None:
                    return told
        raise Garbled(f"{place.origin.host} does not say how large {file.path} is, or what its digest is")

    @asynccontextmanager
    async def bytes_of(
        self, place: Place, name: ModelName, commit: str, file: File, start: int, stop: int
    ) -> AsyncIterator[Answer]:
        """The answer to a request for bytes ``start`` to before ``stop``, whatever the storage says.

        Raises:
            LocalModelsError: there is none, or the hub itself refuses.
        """
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept": OCTETS}
        async with self._ask(place, "GET", _resolve(place, name, commit, file), headers) as answer:
            if answer.status in {401, 403, 404} and not answer.moved:
                refuse(answer, place, name, file.path)
            yield answer

    async def small(self, place: Place, name: ModelName, commit: str, file: File, limit: int = MAX_SMALL) -> bytes:
        """All of a file.

        Raises:
            Garbled: it is larger than ``limit``, or is not what its digest or its git id says.
            LocalModelsError: it cannot be had.
        """
        async with self._ask(place, "GET", _resolve(place, name, commit, file)) as answer:
            if answer.status != 200:
                refuse(answer, place, name, file.path)
            data = await answer.whole(limit)
        # The git id of a file in LFS is that of its pointer.
        told, found = (file.sha256, hashlib.sha256(data).hexdigest()) if file.sha256 else (file.git_id, git_id(data))
        if told != found and (file.sha256 or _COMMIT.fullmatch(told)):
            raise Garbled(f"{place.origin.host} sends {file.path} with other bytes than its digest says")
        return data

    @asynccontextmanager
    async def _ask(
        self, place: Place, method: str, url: URL, headers: Mapping[str, str] | None = None, *, follow: bool = True
    ) -> AsyncIterator[Answer]:
        said = await self._tokens.header(place.origin)
        async with self._outbound.open(
            method, url, headers=headers, authorization=said, allowed=place.allowed, follow=follow
        ) as answer:
            yield answer


def read_repository(data: bytes) -> Repository:
    """The hub's description of a repository.

    Raises:
        Garbled: it is none.
    """
    try:
        wire: _WireRepository = parsed(data, _WireRepository)
    except ValueError as error:
        raise Garbled("the hub's description of the repository cannot be read") from error
    if len(wire.siblings) > MAX_FILES:
        raise Garbled(f"the repository has {len(wire.siblings)} files, more than {MAX_FILES}")
    if not _COMMIT.fullmatch(wire.sha):
        raise Garbled("the hub does not say at which commit the repository is")
    return Repository(wire.sha, tuple(_file(one) for one in wire.siblings if _is_path(one.rfilename)))


def git_id(data: bytes) -> str:
    """The name that git gives to these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def refuse(answer: Answer, place: Place, name: ModelName, path: str) -> NoReturn:
    """Raises what an answer stands for that is not the one that was hoped for.

    The hub says in ``X-Error-Code`` what it means: to somebody it does not know, a repository that is private and one
    that is not there are both 401.
    """
    host, code = place.origin.host, answer.headers.get("X-Error-Code", "")
    what = f"{repository(name)}/{path}" if path else repository(name)
    if "Invalid credentials" in answer.headers.get("X-Error-Message", ""):
        raise Unauthenticated(f"{host} does not take the token; log in again, or look at HF_TOKEN")
    if code == "GatedRepo":
        kind = Unauthenticated if answer.status == 401 else Forbidden
        raise kind(
            f"{repository(name)} is gated: accept its terms at {place.origin}/{repository(name)}, and give the token "
            "of whoever did in HF_TOKEN, or log in"
        )
    if code in {"EntryNotFound", "RevisionNotFound"}:
        raise NotFound(f"{host} has no {what} at this commit")
    if code == "RepoNotFound" or answer.status in {401, 404}:
        raise NotFound(f"{host} has no {what}; if it is private, give a token in HF_TOKEN, or log in")
    raise status_error(answer.status, what, retry_after(answer.headers))


def _resolve(place: Place, name: ModelName, commit: str, file: File) -> URL:
    return place.url(f"/{repository(name)}/resolve/{commit}/{quote(file.path, safe='/')}")


def _told(file: File, answer: Answer) -> File | None:
    """What the head of an answer tells of a file."""
    linked = _ETAG.fullmatch(answer.headers.get("X-Linked-Etag", ""))
    size = number(answer.headers.get("X-Linked-Size"))
    if linked and _SHA256.fullmatch(linked[1]) and size is not None:
        return File(file.path, size, sha256=linked[1])
    tag, size = _ETAG.fullmatch(answer.headers.get("ETag", "")), number(answer.headers.get("Content-Length"))
    if answer.status == 200 and tag and size is not None:
        is_lfs = _SHA256.fullmatch(tag[1])
        return File(file.path, size, sha256=tag[1]) if is_lfs else File(file.path, size, git_id=tag[1])
    return None


def _file(wire: _WireFile) -> File:
    lfs = wire.lfs or _WireLfs()
    size = lfs.size if lfs.size is not None else wire.size
    return File(
        wire.rfilename,
        size if size is not None and size >= 0 else -1,
        sha256=lfs.sha256 if _SHA256.fullmatch(lfs.sha256) else "",
        git_id=wire.blob_id if wire.blob_id and not wire.lfs and _COMMIT.fullmatch(wire.blob_id) else "",
    )


def _is_path(text: str) -> bool:
    """A path of a file, as git has them. It becomes part of a URL, never of a path of ours."""
    parts = text.split("/")
    return text.isprintable() and 0 < len(text) <= MAX_PATH and not {"", ".", ".."}.intersection(parts)
