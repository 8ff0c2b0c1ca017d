"""Tables in a terminal of any width: what is shortened, what falls away, and that the name stays whole."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.cli import list as lists
from localmodels.cli import models, ps, route, servers
from localmodels.cli.columns import APART, CLOSE, LEAST, SHORTEST, fitted
from localmodels.cli.pretty import write_table

SERVERS = (
    ("local", "up", "0/64", "1", "local", "http://127.0.0.1:8000", "this server's own engine"),
    ("gpu-number-one", "up", "3/8", "12", "ollama", "http://10.0.0.5:11434", "the default; priority 10; weight 2.5"),
    ("dead", "down", "0/4", "0", "openai", "https://api.example.com/v1", "the server cannot be reached"),
)


def drawn(room: int) -> list[str]:
    """The lines of the servers."""
    out = io.StringIO()
    write_table(servers.HEADER, SERVERS, out, servers.SPARE, room)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_wide_terminal_shows_all() -> None:
    header, _, gpu, _ = drawn(140)
    assert header.split() == list(servers.HEADER)
    assert gpu.endswith("    the default; priority 10; weight 2.5")


def test_eighty_columns_show_where_and_why() -> None:
    assert drawn(80) == [
        "NAME            STATE  BUSY  URL                       NOTE",
        "local           up     0/64  http://127.0.0.1:8000     this server's own engine",
        "gpu-number-one  up     3/8   http://10.0.0.5:11434     the default; priority 10…",
        "dead            down   0/4   https://api.example.com…  the server cannot be rea…",
    ]


def test_sixty_columns_show_how_they_are_and_why() -> None:
    assert drawn(60) == [
        "NAME            STATE  BUSY  NOTE",
        "local           up     0/64  this server's own engine",
        "gpu-number-one  up     3/8   the default; priority 10; weig…",
        "dead            down   0/4   the server cannot be reached",
    ]


def test_a_name_that_is_too_long_goes_on_in_the_next_line() -> None:
    out = io.StringIO()
    name = "qwen3-coder-30b-a3b-instruct:q4_k_m"
    write_table(("NAME", "SERVER"), [(name, "gpu")], out, (), 30)
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["NAME", "SERVER"], [name[:22], "gpu"], [name[22:]]
    ]  # fmt: skip


@pytest.mark.parametrize("verb", [servers, models, route, lists, ps])
def test_what_can_be_spared_is_a_column_and_never_the_name(verb: object) -> None:
    header, spare = verb.HEADER, verb.SPARE  # type: ignore[attr-defined]
    assert set(spare) <= set(header[1:])


@given(st.data())
def test_every_table_fits_and_keeps_what_it_need_not_give(data: st.DataObject) -> None:
    widths = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=9))
    titles = tuple(f"T{place}" for place in range(len(widths)))
    spare = tuple(data.draw(st.permutations(titles[1:])))[: data.draw(st.integers(0, len(titles)))]
    room = data.draw(st.integers(20, 220))
    fit = fitted(titles, widths, room, spare)
    assert fit.places[0] == 0
    assert fit.places == tuple(sorted(fit.places))
    lost = {titles[place] for place in range(len(titles)) if place not in fit.places}
    assert lost == set(spare[: len(lost)])  # in their order, and no other
    total = sum(fit.widths) + fit.gap * (len(fit.widths) - 1)
    assert total <= room or all(width <= SHORTEST for width in fit.widths)
    assert all(width <= widths[place] or place == 0 for place, width in zip(fit.places, fit.widths, strict=True))
    if fit.gap == APART:
        assert (fit.places, fit.widths) == (tuple(range(len(titles))), tuple(widths))
    if lost:  # the last one fell away because even shortened there was no room for it
        kept = [place for place in range(len(titles)) if place in fit.places or titles[place] == spare[len(lost) - 1]]
        least = sum(widths[place] if place == 0 else min(widths[place], LEAST) for place in kept)
        assert least + CLOSE * (len(kept) - 1) > room
