from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from localmodels.core.catalog import ModelName
from localmodels.core.errors import Forbidden, InvalidValue, LocalModelsError
from localmodels.registry.addresses import MAX_URL, Origin, Place, Registries, parse_url, read_reference, repository


def name(text: str) -> ModelName:
    return ModelName.parse(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("tiny", "https://registry.ollama.ai/v2/library/tiny/manifests/latest"),
        ("me/tiny:7b", "https://registry.ollama.ai/v2/me/tiny/manifests/7b"),
        ("Registry.Example/me/tiny", "https://registry.example/v2/me/tiny/manifests/latest"),
        ("localhost:5000/me/tiny", "https://localhost:5000/v2/me/tiny/manifests/latest"),
    ],
)
def test_a_host_is_asked_by_https(text: str, url: str) -> None:
    [place] = Registries().places(name(text))
    assert str(place.url(f"/v2/{repository(name(text))}/manifests/{name(text).tag}")) == url
    assert (place.named, place.allowed) == (False, frozenset())


def test_plain_http_is_for_those_who_may_ask_for_it() -> None:
    with pytest.raises(Forbidden, match="register http://localhost:5000"):
        Registries().places(name("localhost:5000/me/tiny"), insecure=True)
    [place] = Registries().places(name("localhost:5000/me/tiny"), insecure=True, named=True)
    assert place.origin == Origin("http", "localhost", 5000)
    assert place.allowed == {place.origin}


def test_the_table_goes_before_everything_that_a_caller_says() -> None:
    mirrors = (Place.parse("http://10.0.0.5:5000/cache"), Place.parse("https://registry.ollama.ai"))
    registries = Registries({"Registry.Ollama.ai": mirrors})
    assert registries.places(name("tiny"), insecure=True) == mirrors
    assert str(mirrors[0].url("/v2/")) == "http://10.0.0.5:5000/cache/v2/"
    assert registries.named == {Origin("http", "10.0.0.5", 5000), Origin("https", "registry.ollama.ai", 443)}


def test_a_place_may_declare_origins_as_its_own() -> None:
    place = Place.parse("https://registry.example", trusted=("https://auth.example", "http://auth.example:8080"))
    assert place.trusted == {Origin("https", "auth.example", 443), Origin("http", "auth.example", 8080)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "registry.example",
        "ftp://x",
        "https://",
        "https://a b",
        "https://u:p@x",
        "https://x?y",
        "https://x#y",
        "http://x:0",
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        Place.parse(text)


@pytest.mark.parametrize("text", ["https://x/path", "x"])
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        Origin.parse(text)


@pytest.mark.parametrize("text", ["https://x", "http://x:8080", "https://[::1]:5000", "https://x.example:444"])
def test_an_origin_is_written_as_it_is_read(text: str) -> None:
    assert str(Origin.parse(text)) == text
    assert Origin.of(Origin.parse(text).url) == Origin.parse(text)


def test_origins_differ_by_scheme_host_and_port() -> None:
    texts = ["https://x", "http://x", "https://x:444", "https://y", "http://x:443"]
    assert len(set(map(Origin.parse, texts))) == len(texts)
    assert Origin.parse("HTTPS://X:443") == Origin.parse("https://x")


@pytest.mark.parametrize(
    ("text", "expected", "plain"),
    [
        ("http://localhost:5000/me/tiny:1", "localhost:5000/me/tiny:1", True),
        ("HTTPS://registry.example/me/tiny", "registry.example/me/tiny:latest", False),
        ("https://registry.ollama.ai/library/tiny", "tiny:latest", False),
        ("tiny", "tiny:latest", False),
    ],
)
def test_a_reference_may_say_its_scheme(text: str, expected: str, plain: bool) -> None:
    found, is_plain = read_reference(text)
    assert (str(found), is_plain) == (expected, plain)


def test_a_reference_of_another_scheme_is_no_name() -> None:
    with pytest.raises(InvalidValue):
        read_reference("ftp://localhost/me/tiny")


def test_a_signed_address_stays_as_it_is() -> None:
    text = "https://storage.example/a%2Fb?sig=x%2By%3D&k=%7e+1"
    assert str(parse_url(text)) == text


@pytest.mark.parametrize(
    "text", ["/a b", "/a\r\nX: y", "/a\x00", "/é", "", "/" + "x" * MAX_URL, "https://[::1", "http://x:99999"]
)
def test_what_does_not_belong_into_a_request_line_is_refused(text: str) -> None:
    with pytest.raises(Forbidden):
        Origin.of(parse_url(text, URL("https://registry.example/v2/")))


@given(st.text(max_size=60))
def test_any_text_is_a_url_that_can_be_sent_or_refused(text: str) -> None:
    try:
        url = parse_url(text, URL("https://registry.example/v2/"))
        Origin.of(url)
    except LocalModelsError:
        return
    assert url.raw_path_qs.isascii()
    assert not set(url.raw_path_qs) & set(" \r\n\x00")


# What the operator configured.


def configured(host: str, **settings: object) -> tuple[Place, ...]:
    return Registries.configured(**settings).places(name(f"{host}/me/tiny"))  # type: ignore[arg-type]


def test_mirrors_come_in_their_order_and_the_registry_itself_last() -> None:
    places = configured("reg.example", mirrors=[("REG.example", "http://10.0.0.5/a"), ("reg.example", "https://b")])
    assert [str(place.url("/v2/")) for place in places] == [
        "http://10.0.0.5/a/v2/",
        "https://b/v2/",
        "https://reg.example/v2/",
    ]
    assert {place.speaks for place in places} == {"oci"}


def test_a_registry_by_plain_http_is_spoken_to_by_it_without_being_asked_for() -> None:
    [place] = configured("lan:5000", insecure=["LAN:5000"])
    assert (place.origin, place.named) == (Origin("http", "lan", 5000), True)
    [other] = configured("lan:5001", insecure=["LAN:5000"])
    assert (other.origin.scheme, other.named) == ("https", False)


def test_what_is_trusted_belongs_to_one_host_and_not_to_its_mirrors() -> None:
    settings = {
        "mirrors": [("reg.example", "https://cache.example:444")],
        "trusted": [("reg.example", "https://auth.example"), ("cache.example:444", "https://files.example")],
    }
    mirror, itself = configured("reg.example", **settings)
    assert itself.trusted == {Origin("https", "auth.example", 443)}
    assert mirror.trusted == {Origin("https", "files.example", 443)}


@pytest.mark.parametrize("host", ["hf.co", "huggingface.co", "HF.co"])
def test_the_hub_has_two_names_and_one_place(host: str) -> None:
    [place] = configured(host)
    assert (str(place.origin), place.speaks, place.named) == ("https://huggingface.co", "hub", False)
    mirror, itself = configured(
        host,
        hub="http://127.0.0.1:8080/hub",
        mirrors=[("hf.co", "https://m")],
        trusted=[("huggingface.co", "http://store")],
    )
    assert (str(mirror.origin), mirror.speaks) == ("https://m", "hub")
    assert (str(itself.url("/api")), itself.named) == ("http://127.0.0.1:8080/hub/api", True)
    assert itself.trusted == {Origin("http", "store", 80)}
    assert mirror.trusted == frozenset()


def test_nobody_asks_the_hub_by_plain_http_by_saying_so() -> None:
    assert configured("hf.co", insecure=["hf.co"])[0].origin.scheme == "https"
    [place] = Registries.configured().places(name("hf.co/me/tiny"), insecure=True, named=True)
    assert place.origin.scheme == "https"
