"""The OCI distribution protocol, request by request, with the media types that Ollama uses.

The rule: a method is one request and what its answer means. Nothing is tried again here but a request that a login was
missing for; who tries again, and when, is decided in ``parts`` and ``push``. A manifest is compared with the digest
that was asked for or that comes with it before anybody sees it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct
from yarl import URL

from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.errors import Forbidden, Garbled, LocalModelsError, Unauthenticated
from localmodels.dialects.strict_json import parsed
from localmodels.registry.addresses import Origin, Place, parse_url, repository
from localmodels.registry.auth import RegistryTokens, pull_scope, push_scope
from localmodels.registry.credentials import Login, MemoryCredentials
from localmodels.registry.outbound import Answer, Body, Outbound, Patience
from localmodels.registry.verdicts import Head, status_error

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MANIFESTS = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
OCTETS = "application/octet-stream"

# V-03's bound; the registry spec asks servers to take at least this much.
MAX_MANIFEST = 4 * 2**20
MAX_ERROR = 64 * 1024
MAX_DETAIL = 200
# A registry may read all of an upload again before it says that the digest is right: 40 GB at 50 MB/s.
COMMIT = Patience(head=800.0)

_SPAN = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")


class Fetched(Struct, frozen=True):
    """A manifest as it came: its bytes, their digest, and the kind that it says it is."""

    data: bytes
    digest: Digest
    media_type: str


class Upload(Struct, frozen=True):
    """An upload that goes on: where its next bytes are sent, how many are there, and how many a chunk has at least."""

    url: URL
    offset: int = 0
    least: int = 0


class Distribution:
    """Speaks to registries through one door, as whom ``tokens`` says."""

    def __init__(self, outbound: Outbound, tokens: RegistryTokens) -> None:
        self._outbound = outbound
        self._tokens = tokens

    async def check(self, place: Place, login: Login) -> bool:
        """Asks whether a registry takes a login, keeping nothing; false if it did not even ask who we are.

        Raises:
            Unauthenticated: it does not.
            LocalModelsError: it cannot be asked.
        """
        tokens = RegistryTokens(self._outbound, MemoryCredentials({place.origin: login}))
        once = Distribution(self._outbound, tokens)
        async with once._ask(place, "GET", place.url("/v2/"), "") as answer:
            if answer.status == 401:
                raise Unauthenticated(f"{place.origin.host} does not take the login of {login.username!r}")
            await _expect(answer, {200}, "registry here")
        return tokens.header(place, "") is not None

    async def manifest(self, place: Place, name: ModelName, digest: Digest | None = None) -> Fetched:
        """The manifest of a name's tag, or of a digest in its repository.

        Raises:
            NotFound: there is none.
            Garbled: it is none, or not the one that its digest says.
            LocalModelsError: the registry cannot be asked.
        """
        where = repository(name)
        url = place.url(f"/v2/{where}/manifests/{digest or name.tag}")
        accept = {"Accept": ", ".join(sorted(MANIFESTS))}
        async with self._ask(place, "GET", url, pull_scope(where), accept) as answer:
            await _expect(answer, {200}, f"model '{name}'")
            data = await answer.whole(MAX_MANIFEST)
            return Fetched(data, _digest_of(data, answer, digest), _media_type(data, answer))

    async def put_manifest(self, place: Place, name: ModelName, data: bytes, media_type: str = DOCKER_MANIFEST) -> None:
        """Writes the manifest of a name's tag.

        Raises:
            LocalModelsError: the registry does not take it, or understood other bytes.
        """
        where = repository(name)
        url = place.url(f"/v2/{where}/manifests/{name.tag}")
        async with self._ask(place, "PUT", url, push_scope(where), {"Content-Type": media_type}, data) as answer:
            await _expect(answer, {200, 201, 202, 204}, f"place for the manifest of {name}")
            _digest_of(data, answer, None)

    async def has_blob(self, place: Place, name: ModelName, blob: Blob, *, scope: str = "") -> bool:
        """Whether the repository has this blob.

        Raises:
            Garbled: it has one of this digest and another size.
            LocalModelsError: the registry cannot be asked.
        """
        where = repository(name)
        url = place.url(f"/v2/{where}/blobs/{blob.digest}")
        async with self._ask(place, "HEAD", url, scope or pull_scope(where)) as answer:
            if answer.status == 404:
                return False
            await _expect(answer, {200}, f"blob {blob.digest}")
            size = number(answer.headers.get("Content-Length"))
            if size not in {None, blob.size}:
                raise Garbled(f"the registry has {blob.digest} with {size} bytes, and not {blob.size}")
            return True

    @asynccontextmanager
    async def blob(self, place: Place, name: ModelName, blob: Blob, start: int, stop: int) -> AsyncIterator[Answer]:
        """The answer to a request for bytes ``start`` to before ``stop``, whatever it is.

        Raises:
            LocalModelsError: there is none.
        """
        where = repository(name)
        url = place.url(f"/v2/{where}/blobs/{blob.digest}")
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept": OCTETS}
        async with self._ask(place, "GET", url, pull_scope(where), headers) as answer:
            yield answer

    async def begin_upload(self, place: Place, name: ModelName, blob: Blob, mount: str = "") -> Upload | None:
        """Begins to upload a blob; None when the registry mounted it from the repository ``mount``, and all is done.

        Raises:
            LocalModelsError: the registry does not begin.
        """
        where = repository(name)
        query = {"mount": str(blob.digest), "from": mount} if mount else None
        url = place.url(f"/v2/{where}/blobs/uploads/", query)
        async with self._ask(place, "POST", url, _scope(where, mount)) as answer:
            await _expect(answer, {201, 202} if mount else {202}, f"repository {where}")
            if answer.status == 201:
                return None
            return Upload(_location(place, answer), 0, number(answer.headers.get("OCI-Chunk-Min-Length")) or 0)

    async def send_chunk(self, place: Place, name: ModelName, upload: Upload, body: Body, size: int) -> Upload:
        """Sends the next ``size`` bytes.

        Raises:
            LocalModelsError: they did not arrive, all or in part.
        """
        headers = {
            "Content-Type": OCTETS,
            "Content-Range": f"{upload.offset}-{upload.offset + size - 1}",
            "Content-Length": str(size),
        }
        async with self._ask(place, "PATCH", upload.url, push_scope(repository(name)), headers, body) as answer:
            await _expect(answer, {202, 204}, "such upload")
            after = _uploaded(answer.headers)
            if after not in {None, upload.offset + size}:
                raise Garbled(f"the registry has {after} bytes of the upload after {upload.offset + size} were sent")
            return Upload(_location(place, answer), upload.offset + size, upload.least)

    async def upload_status(self, place: Place, name: ModelName, upload: Upload) -> Upload:
        """How far an upload is.

        Raises:
            LocalModelsError: the registry knows it no more, or does not say.
        """
        async with self._ask(place, "GET", upload.url, push_scope(repository(name))) as answer:
            await _expect(answer, {200, 202, 204}, "such upload")
            after = _uploaded(answer.headers)
            # ``0-0`` is said of one byte, and by the most used registry of none too.
            if after is None or after == 1:
                raise Garbled("the registry does not say how far the upload is")
            return Upload(_location(place, answer), after, upload.least)

    async def end_upload(self, place: Place, name: ModelName, upload: Upload, blob: Blob) -> None:
        """Closes an upload of which every byte was sent.

        Raises:
            LocalModelsError: the registry has not what the digest says, or is gone.
        """
        # Added to the text: what stands there already may be signed to the byte.
        joint = "&" if upload.url.raw_query_string else "?"
        url = URL(f"{upload.url}{joint}digest={blob.digest}", encoded=True)
        headers = {"Content-Type": OCTETS, "Content-Length": "0"}
        async with self._ask(place, "PUT", url, push_scope(repository(name)), headers, patience=COMMIT) as answer:
            await _expect(answer, {201, 202, 204}, "such upload")

    async def cancel_upload(self, place: Place, name: ModelName, upload: Upload) -> None:
        """Has the registry forget an upload.

        Raises:
            LocalModelsError: it could not be told.
        """
        async with self._ask(place, "DELETE", upload.url, push_scope(repository(name))) as answer:
            await _expect(answer, {200, 202, 204}, "such upload")

    @asynccontextmanager
    async def _ask(
        self,
        place: Place,
        method: str,
        url: URL,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        *,
        patience: Patience | None = None,
    ) -> AsyncIterator[Answer]:
        """One request, and once more if it was asked who we are."""
        said = self._tokens.header(place, scope)
        for again in (True, False):
            async with self._outbound.open(
                method,
                url,
                headers=headers,
                authorization=said,
                body=body,
                allowed=place.allowed,
                patience=patience,
            ) as answer:
                if not (again and answer.status == 401 and not answer.moved):
                    yield answer
                    return
            said = await self._tokens.answer(place, scope, answer, said)


def head_of(answer: Answer) -> Head:
    """What matters of a blob's answer."""
    found = _SPAN.fullmatch(answer.headers.get("Content-Range", ""))
    return Head(
        status=answer.status,
        span=(int(found[1]), int(found[2]) + 1, None if found[3] == "*" else int(found[3])) if found else None,
        length=number(answer.headers.get("Content-Length")),
        moved=answer.moved,
        retry_after=retry_after(answer.headers),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from ``Retry-After``; the form that is a date is not used by registries and is ignored."""
    seconds = number(headers.get("Retry-After"))
    return float(seconds) if seconds is not None else None


def number(text: str | None) -> int | None:
    """A whole number of a header, None if it is none."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _scope(where: str, mount: str) -> str:
    return push_scope(where, mount) if mount else push_scope(where)


async def _expect(answer: Answer, statuses: set[int], what: str) -> None:
    """Raises what a status stands for that is none of these, with the registry's own reason."""
    if answer.status in statuses:
        return
    error = status_error(answer.status, what, retry_after(answer.headers))
    detail = await _detail(answer)
    raise type(error)(f"{error.message}: {detail}" if detail else error.message, retry_after=error.retry_after)


class _WireError(Struct):
    code: str = ""
    message: str = ""


class _WireErrors(Struct):
    errors: list[_WireError] = []


async def _detail(answer: Answer) -> str:
    """The registry's own words, on one line and short; what is not in the protocol's form is not repeated."""
    try:
        wire: _WireErrors = parsed(await answer.whole(MAX_ERROR), _WireErrors)
    except (LocalModelsError, ValueError):
        return ""
    said = "; ".join(one.message or one.code for one in wire.errors[:3])
    return "".join(char if char.isprintable() else " " for char in said)[:MAX_DETAIL]


def _digest_of(data: bytes, answer: Answer, asked: Digest | None) -> Digest:
    digest = Digest(hashlib.sha256(data).hexdigest())
    said = answer.headers.get("Docker-Content-Digest", "")
    if asked not in {None, digest}:
        raise Garbled(f"the registry sends a manifest that is not {asked}")
    if said.startswith("sha256:") and said != str(digest):
        raise Garbled("the registry's manifest has not the digest that the registry gives it")
    return digest


class _WireKind(Struct, rename="camel"):
    media_type: Any = ""


def _media_type(data: bytes, answer: Answer) -> str:
    """The kind of a manifest, which its head and its own bytes must not tell differently (threat V-03).

    Ollama's registry calls its manifests ``text/plain``: a head that names no kind of manifest says nothing.
    """
    told = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        own = parsed(data, _WireKind).media_type
    except ValueError as error:
        raise Garbled("the registry's manifest is not JSON") from error
    named = told if told.startswith("application/vnd.") else ""
    kind = own or named or DOCKER_MANIFEST
    if kind not in MANIFESTS or named not in {"", kind}:
        raise Garbled(f"the registry sends a manifest of the kind {str(named or own)[:80]!r}, not one of an image")
    return str(kind)


def _location(place: Place, answer: Answer) -> URL:
    """Where an upload goes on: at the registry's own origin, or at one declared for it (threat V-20).

    Ollama's registry says it in a header of its own, and its client prefers that one.
    """
    text = answer.headers.get("Docker-Upload-Location") or answer.headers.get("Location")
    if not text:
        raise Garbled("the registry does not say where to send the upload")
    url = parse_url(text, answer.url)
    origin = Origin.of(url)
    if origin != place.origin and origin not in place.trusted:
        raise Forbidden(
            f"{place.origin.host} wants the upload sent to {origin}, which is not trusted; "
            f"if it is the registry's own, start the server with --trusted-origin {place.origin.host}={origin}"
        )
    return url


def _uploaded(headers: Mapping[str, str]) -> int | None:
    """How many bytes an upload has, of ``Range: 0-<last>``."""
    found = _RANGE.fullmatch(headers.get("Range", ""))
    return int(found[1]) + 1 if found else None
