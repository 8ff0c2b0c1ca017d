from __future__ import annotations

import pytest

from localmodels.core.errors import Forbidden
from localmodels.registry.addresses import Place
from localmodels.registry.auth import pull_scope, push_scope, service_of
from localmodels.registry.challenges import Challenge

SCOPE = pull_scope("library/tiny")
OTHER = "repository:other/secret:push"
HERE = Place.parse("https://registry.example", trusted=("https://auth.example", "http://auth.example"))


def test_scopes_are_those_of_the_token_specification() -> None:
    assert pull_scope("a/b") == "repository:a/b:pull"
    assert push_scope("a/b", "c/d") == "repository:a/b:pull,push repository:c/d:pull"


def test_a_service_at_the_registry_itself_names_its_scopes() -> None:
    url, scopes = service_of(HERE, Challenge("bearer", "https://registry.example/t?a=b", "s", (OTHER,)), SCOPE)
    assert (str(url), scopes) == ("https://registry.example/t?a=b", (OTHER,))
    assert service_of(HERE, Challenge("bearer", "https://registry.example/t"), SCOPE)[1] == (SCOPE,)


def test_a_service_of_several_registries_is_asked_for_what_we_do() -> None:
    """Else one registry could have us fetch, and hand to it, a token for another."""
    url, scopes = service_of(HERE, Challenge("bearer", "https://auth.example/t", "s", (OTHER,)), SCOPE)
    assert (url.host, scopes) == ("auth.example", (SCOPE,))


@pytest.mark.parametrize(
    "realm",
    [
        "https://registry.example:444/t",
        "https://registry.example.evil.example/t",
        "https://evil.example/t",
        "https://auth.example:8443/t",
        "https://registry.example@evil.example/t",
        "https://ollie:sesame@registry.example/t",
        "//registry.example/t",
        "/token",
        "token",
        "",
        "file:///etc/passwd",
        "https://registry.example\\@evil.example/",
        "https://registry.example/\r\nX: y",
        "https://ｒegistry.example/",
    ],
)
def test_a_realm_elsewhere_gets_nothing(realm: str) -> None:
    with pytest.raises(Forbidden):
        service_of(HERE, Challenge("bearer", realm), SCOPE)


@pytest.mark.parametrize("realm", ["http://registry.example/t", "http://auth.example/t"])
def test_a_realm_on_plain_http_gets_nothing_from_https(realm: str) -> None:
    with pytest.raises(Forbidden, match="plain http"):
        service_of(HERE, Challenge("bearer", realm), SCOPE)


def test_a_registry_on_plain_http_has_its_realm_there() -> None:
    plain = Place.parse("http://localhost:5000")
    assert str(service_of(plain, Challenge("bearer", "http://localhost:5000/t"), SCOPE)[0]) == "http://localhost:5000/t"
