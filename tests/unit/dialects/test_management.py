"""Keys and usage as JSON: what one role writes, the other reads; and a key's text is in one answer alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.access import GRANTS, Allowance, Use, Wish
from localmodels.core.errors import Garbled, InvalidRequest, InvalidValue
from localmodels.dialects import management
from localmodels.flows.access.keys import make_key

MOMENTS = st.integers(10**6, 4 * 10**15).map(lambda microseconds: microseconds * 1000)
COUNTS = st.none() | st.integers(1, 10**15)
WISHES = st.builds(
    Wish,
    st.text(min_size=1, max_size=20),
    st.frozensets(st.sampled_from(GRANTS)),
    st.lists(st.text(min_size=1, max_size=9), max_size=4).map(tuple),
    st.builds(Allowance, COUNTS, COUNTS, COUNTS, st.sampled_from(("ever", "day", "month"))),
    st.integers(1, 100),
    st.none() | MOMENTS,
)
USES = st.builds(Use, st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), *([st.integers(0, 10**6)] * 7))


@given(WISHES)
def test_a_wish_comes_back(wish: Wish) -> None:
    assert management.read_wish(management.write_wish(wish)) == wish


@given(st.lists(USES))
def test_usage_comes_back(uses: list[Use]) -> None:
    assert management.read_usage(management.write_usage(uses)) == tuple(uses)


def test_a_text_is_in_the_answer_that_made_it() -> None:
    key, text = make_key(Wish("bob", models=("qwen3", "a*"), allowance=Allowance(60, None, 9, "day")), 10**18)
    told, again = management.read_made(management.write_made(key, text, 20))
    assert again == text
    assert (
        told
        == management.read_key(management.write_key(key, 20))
        == management.read_keys(management.write_keys([key], 20))[0]
    )
    for body in (management.write_key(key, 20), management.write_keys([key], 20)):
        assert text.reveal().encode() not in body
        assert key.hash.hex().encode() not in body
    assert (told.name, told.models, told.quota_period, told.state) == ("bob", ("qwen3", "a*"), "day", "active")
    assert told.created_at == "2001-09-09T01:46:40.000000000Z"


def test_a_key_s_state_is_that_of_the_moment() -> None:
    key, _ = make_key(Wish("bob", expires_at=50), 10)
    assert management.shown(key, 49).state == "active"
    assert management.shown(key, 50).state == "expired"
    assert management.shown(msgspec.structs.replace(key, revoked_at=20), 30).state == "revoked"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", InvalidRequest),
        (b"[]", InvalidRequest),
        (b'{"name": 1}', InvalidValue),
        (b'{"name": "bob", "quota": 5}', InvalidRequest),
        (b'{"name": "bob", "quota_period": "year"}', InvalidValue),
        (b'{"name": "bob", "requests_per_minute": 1.5}', InvalidValue),
        (b'{"name": "bob", "expires_at": "tomorrow"}', InvalidValue),
        (b'{"name": "bob", "expires_at": "2027-01-31T00:00:00"}', InvalidValue),
        (b'{"name": "bob", "name": "eve"}', InvalidRequest),
    ],
)
def test_what_is_no_wish_is_refused(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        management.read_wish(body)


def test_no_answer_of_ours_is_garbled() -> None:
    for read in (management.read_keys, management.read_key, management.read_made, management.read_usage):
        with pytest.raises(Garbled):
            read(b'{"models": []}')
    with pytest.raises(InvalidValue, match="since"):
        management.read_since("yesterday")
