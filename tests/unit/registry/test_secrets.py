from __future__ import annotations

import copy
import pickle

import pytest

from localmodels.core.secrets import Secret
from localmodels.registry.credentials import Login
from localmodels.registry.secrets import basic, bearer


@pytest.mark.parametrize("secret", [Secret("sesame"), basic("ollie", Secret("sesame")), bearer("sesame")])
def test_a_secret_is_not_printed(secret: Secret) -> None:
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>20}", "%s" % secret, str([secret]), str({secret: 1})]  # noqa: UP031
    assert not [text for text in shown if "sesame" in text or "c2VzYW1l" in text]
    assert str(secret) == "***"


def test_nor_is_what_holds_one() -> None:
    assert "sesame" not in repr(Login.parse("ollie", "sesame"))


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy])
def test_a_secret_is_not_written_down(write: object) -> None:
    assert callable(write)
    with pytest.raises(TypeError, match="not written down"):
        write(Secret("sesame"))


def test_secrets_are_equal_when_their_texts_are() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert (bool(Secret("")), bool(Secret("a"))) == (False, True)


def test_headers_are_those_of_the_standards() -> None:
    assert basic("Aladdin", Secret("open sesame")).reveal() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617, 2
    assert basic("test", Secret("123£")).reveal() == "Basic dGVzdDoxMjPCow=="  # RFC 7617, 2.1
    assert bearer("mF_9.B5f-4.1JqM").reveal() == "Bearer mF_9.B5f-4.1JqM"  # RFC 6750, 2.1
