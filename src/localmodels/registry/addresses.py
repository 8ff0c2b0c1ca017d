"""Which URLs a model's host stands for, what is spoken there, and the origins that all trust is decided by.

The rule: an origin is scheme, host and port together. Two origins that differ in any of the three are strangers, and a
secret or a permission given to one says nothing about the other (threat V-21).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct, structs
from yarl import URL

from localmodels.core.catalog import ModelName
from localmodels.core.errors import Forbidden, InvalidValue

PORTS = {"https": 443, "http": 80}
# Hugging Face's hub, under the two names that it has.
HUB_HOSTS = ("huggingface.co", "hf.co")
DEFAULT_HUB = "https://huggingface.co"
# A signed address of a content network is 1 to 3 KiB long; 8 KiB is what servers commonly take in a request line.
MAX_URL = 8 * 1024

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[a-z0-9_][a-z0-9_.\-]{0,252}|[0-9a-f:.]*:[0-9a-f:.]*")
_SCHEME = re.compile(r"(https?)://", re.IGNORECASE)


Language = Literal["oci", "hub"]


class Origin(Struct, frozen=True, order=True):
    """Scheme, host in lower case (IPv6 without brackets) and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: URL) -> Origin:
        """The origin that a request for this URL goes to.

        Raises:
            Forbidden: another scheme than http and https, a user name in it, or a host that is no host.
        """
        try:
            host, port, has_user = (url.raw_host or "").lower(), url.port, "@" in url.raw_authority
        except ValueError as error:  # yarl looks at these only when they are asked for
            raise Forbidden("an address names no host and port") from error
        if url.scheme not in PORTS or has_user:
            raise Forbidden("an address of a registry begins with https:// or http:// and names no user")
        if not _HOST.fullmatch(host) or not port:
            raise Forbidden(f"{host[:80]!r} is not a host and a port")
        return cls(url.scheme, host, port)

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Reads ``https://host[:port]`` or ``http://host[:port]``.

        Raises:
            InvalidValue: it is none of them.
        """
        place = Place.parse(text)
        if place.path:
            raise InvalidValue(f"{text[:120]!r} is not a scheme, a host and a port alone")
        return place.origin

    @property
    def url(self) -> URL:
        """Its root."""
        return URL.build(scheme=self.scheme, host=self.host, port=self.port, path="/")

    @property
    def is_usual(self) -> bool:
        """Is it the port that its scheme has anyway?"""
        return self.port == PORTS[self.scheme]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.is_usual else f":{self.port}")


# Origins that are one and the same: a login to one of them is a login to the other.
SAME: Mapping[Origin, tuple[Origin, ...]] = {
    Origin("https", host, 443): tuple(Origin("https", one, 443) for one in HUB_HOSTS) for host in HUB_HOSTS
}


class Place(Struct, frozen=True):
    """Where a registry is reached.

    Attributes:
        path: before ``/v2``, without a slash at its end; empty for most.
        named: a person who may decide it named this origin, so it may be on the local network, and plain http.
        trusted: other origins that may be given what is meant for this registry: the credentials, when its token
            service stands there, and the bytes of an upload. Its files may lie there, also on the local network.
        speaks: the distribution protocol of OCI, or what Hugging Face's hub speaks.
    """

    origin: Origin
    path: str = ""
    named: bool = False
    trusted: frozenset[Origin] = frozenset()
    speaks: Language = "oci"

    @classmethod
    def parse(cls, text: str, *, trusted: Sequence[str] = (), speaks: Language = "oci") -> Place:
        """Reads ``https://host[:port][/path]``, as the operator writes it; ``trusted`` are origins.

        Raises:
            InvalidValue: it is not such a URL.
        """
        try:
            url = parse_url(text)
            if url.raw_query_string or url.raw_fragment:
                raise Forbidden("it has a query")
            origin = Origin.of(url)
        except Forbidden as error:
            raise InvalidValue(f"{text[:120]!r} is not the address of a registry: {error.message}") from error
        origins = frozenset(map(Origin.parse, trusted))
        return cls(origin, url.raw_path.rstrip("/"), named=True, trusted=origins, speaks=speaks)

    def trusting(self, origins: Mapping[str, Sequence[str]]) -> Place:
        """The same, with the origins that stand there for its own host, as ``host`` or ``host:port``."""
        added = map(Origin.parse, origins.get(str(self.origin).partition("://")[2], ()))
        return structs.replace(self, trusted=self.trusted.union(added))

    @property
    def allowed(self) -> frozenset[Origin]:
        """The origins that need not be public on its behalf."""
        return self.trusted | {self.origin} if self.named else self.trusted

    def url(self, path: str, query: Mapping[str, str] | None = None) -> URL:
        """The URL of a path that begins with a slash and is quoted where it must be."""
        # Scheme and path alone: yarl quotes what is in the query, and the path is made of parsed names.
        return self.origin.url.with_path(self.path + path, encoded=True).with_query(query)


class Registries:
    """The registries that the operator configured: by host as model names write it, places in the order of trying.

    The last place is the registry itself, those before it are its mirrors: what is sent goes to the last one.
    """

    def __init__(self, table: Mapping[str, tuple[Place, ...]] | None = None) -> None:
        self._table = {host.lower(): places for host, places in (table or {}).items()}

    @classmethod
    def configured(
        cls,
        *,
        hub: str = DEFAULT_HUB,
        mirrors: Iterable[tuple[str, str]] = (),
        insecure: Iterable[str] = (),
        trusted: Iterable[tuple[str, str]] = (),
    ) -> Registries:
        """Those of a configuration.

        Args:
            hub: the URL at which the models of ``HUB_HOSTS`` are.
            mirrors: host and URL; those of one host in the order of trying.
            insecure: hosts that are spoken to by plain http.
            trusted: host, with its port where it has one, and an origin that this host may send us to.

        Raises:
            InvalidValue: what should be a URL is none.
        """
        mirrors_of, trusted_of = grouped(mirrors), grouped(trusted)
        plain = frozenset(host.lower() for host in insecure)
        table = {}
        for host in {*mirrors_of, *trusted_of, *plain, *HUB_HOSTS}:
            speaks: Language = "hub" if host in HUB_HOSTS else "oci"
            url = hub if speaks == "hub" else f"{'http' if host in plain else 'https'}://{host}"
            itself = Place.parse(url, trusted=trusted_of.get(host, ()), speaks=speaks)
            if url == DEFAULT_HUB:  # this one nobody named: it is as public as a host in a model's name
                itself = structs.replace(itself, named=False)
            mirrors_here = (Place.parse(mirror, speaks=speaks) for mirror in mirrors_of.get(host, ()))
            # A mirror is another party than the registry, and what is trusted there is not trusted here.
            table[host] = tuple(place.trusting(trusted_of) for place in (*mirrors_here, itself))
        return cls(table)

    @property
    def named(self) -> frozenset[Origin]:
        """Every origin in the table, for the door out to know."""
        return frozenset().union(*(place.allowed for places in self._table.values() for place in places))

    def places(self, name: ModelName, *, insecure: bool = False, named: bool = False) -> tuple[Place, ...]:
        """Where the models of this name's host are.

        Args:
            name: of a model.
            insecure: plain http was asked for. It has no effect on a host that is in the table.
            named: whoever asks is the operator, so a host on the local network is as good as one in the table.

        Raises:
            Forbidden: plain http to a host that nobody who may do so has named.
        """
        return self.of_host(name.host, insecure=insecure, named=named)

    def of_host(self, host: str, *, insecure: bool = False, named: bool = False) -> tuple[Place, ...]:
        """The same, of a host as names of models begin; errors as :meth:`places`."""
        if found := self._table.get(host.lower()):
            return found
        if insecure and not named:
            raise Forbidden(f"{host} is not registered as insecure; use https, or register http://{host}")
        scheme = "http" if insecure else "https"
        try:
            origin = Origin.of(parse_url(f"{scheme}://{host}"))
        except Forbidden as error:
            raise InvalidValue(f"invalid host in model name: {error.message}", param="model") from error
        return (Place(origin, named=named),)


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """What belongs to each host, in lower case, in the order of coming. The hub's names are one host."""
    groups: dict[str, list[str]] = {}
    for host, one in pairs:
        for name in HUB_HOSTS if host.lower() in HUB_HOSTS else (host.lower(),):
            groups.setdefault(name, []).append(one)
    return groups


def read_reference(text: str) -> tuple[ModelName, bool]:
    """A model name that may have ``http://`` or ``https://`` before it; and whether it was plain http.

    Raises:
        InvalidValue: it is no model name.
    """
    scheme = _SCHEME.match(text)
    return ModelName.parse(text[scheme.end() :] if scheme else text), bool(scheme) and text[4:5] == ":"


def repository(name: ModelName) -> str:
    """What the protocol calls the name."""
    return f"{name.namespace}/{name.name}"


def parse_url(text: str, base: URL | None = None) -> URL:
    """A URL from outside, kept to the byte (signed ones break otherwise); relative to ``base`` where that is given.

    Raises:
        Forbidden: it cannot be read, is too long, or has bytes in it that do not belong into a request line.
    """
    if len(text) > MAX_URL or not _PRINTABLE.fullmatch(text):
        raise Forbidden("an address is too long, or has spaces or control characters in it")
    try:
        url = URL(text, encoded=True)
        return base.join(url) if base is not None else url
    except ValueError as error:
        raise Forbidden("an address cannot be read") from error
