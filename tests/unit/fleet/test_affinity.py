"""Who holds which prompts, and where conversations are at home."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from localmodels.fleet.affinity import Affinity, Prefix, Sessions


def prompt(*blocks: int | str) -> Prefix:
    """A prompt of these blocks of 100 tokens."""
    marks, before = [], 0
    for number, block in enumerate(blocks, 1):
        before = hash((before, block))
        marks.append((before, number * 100))
    return tuple(marks)


def test_nobody_holds_what_nobody_was_sent() -> None:
    affinity = Affinity()
    affinity.remember(prompt(1, 2), "a")
    assert affinity.owners(prompt(2, 1)) == {}
    assert affinity.owners(()) == {}


def test_the_longest_beginning_that_a_host_was_sent_counts() -> None:
    affinity = Affinity()
    affinity.remember(prompt(1, 2, 3), "a")
    affinity.remember(prompt(1, 2), "b")
    affinity.remember(prompt(1, 9), "c")
    affinity.remember(prompt(8, 9), "d")
    assert affinity.owners(prompt(1, 2, 3, 4)) == {"a": 300, "b": 200, "c": 100}


def test_an_empty_prompt_is_not_remembered() -> None:
    affinity = Affinity()
    affinity.remember((), "a")
    assert len(affinity) == 0


def test_a_host_that_is_forgotten_holds_nothing_and_the_others_what_they_held() -> None:
    affinity = Affinity()
    for host in ("a", "b", "c"):
        affinity.remember(prompt(1, 2, host), host)
    affinity.forget("b")
    affinity.forget("never there")
    assert affinity.owners(prompt(1, 2, "b")) == {"a": 200, "c": 200}
    assert len(affinity) == 6


def test_the_place_of_a_host_that_left_is_another_ones() -> None:
    affinity = Affinity()
    affinity.remember(prompt(1), "a")
    affinity.remember(prompt(2), "b")
    affinity.forget("a")
    affinity.remember(prompt(3), "c")
    assert affinity.owners(prompt(1)) == {}
    assert affinity.owners(prompt(2)) == {"b": 100}
    assert affinity.owners(prompt(3)) == {"c": 100}


def test_of_a_host_what_was_not_used_for_longest_goes_first_and_ends_before_beginnings() -> None:
    affinity = Affinity(most_at_host=4)
    affinity.remember(prompt(1, 2, 3), "a")
    affinity.remember(prompt(7, 8), "a")
    assert affinity.owners(prompt(1, 2, 3)) == {"a": 200}
    assert affinity.owners(prompt(7, 8)) == {"a": 200}
    affinity.remember(prompt(1), "a")  # used again
    affinity.remember(prompt(9, 9), "a")
    assert affinity.owners(prompt(1, 2)) == {"a": 100}
    assert affinity.owners(prompt(7, 8)) == {"a": 100}


def test_the_bound_of_one_host_takes_nothing_from_another() -> None:
    affinity = Affinity(most_at_host=2)
    affinity.remember(prompt(1, 2), "a")
    for number in range(10):
        affinity.remember(prompt("b", number), "b")
    assert affinity.owners(prompt(1, 2)) == {"a": 200}


def test_all_hosts_together_are_bounded() -> None:
    affinity = Affinity(most=100, most_at_host=50)
    for number in range(1000):
        affinity.remember(prompt(number, 1, 2), f"host {number % 10}")
    assert len(affinity) <= 110


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 40))
def test_it_tells_what_a_plain_list_of_all_prompts_tells_until_it_is_full(seed: int, steps: int) -> None:
    chance, affinity = Random(seed), Affinity()
    sent: dict[str, list[tuple[int, ...]]] = {}
    for _ in range(steps):
        blocks = tuple(chance.choice((1, 2)) for _ in range(chance.randrange(1, 6)))
        host = chance.choice("abcd")
        if chance.random() < 0.15:
            affinity.forget(host)
            sent.pop(host, None)
        else:
            affinity.remember(prompt(*blocks), host)
            sent.setdefault(host, []).append(blocks)
        asked = tuple(chance.choice((1, 2)) for _ in range(5))
        expected = {host: max(common(asked, one) for one in ones) * 100 for host, ones in sent.items()}
        assert affinity.owners(prompt(*asked)) == {host: tokens for host, tokens in expected.items() if tokens}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_kept_of_a_host_is_within_its_bound_and_beginnings_stay(seed: int) -> None:
    chance, affinity = Random(seed), Affinity(most_at_host=7)
    for _ in range(50):
        blocks = prompt(*(chance.randrange(3) for _ in range(chance.randrange(1, 6))))
        affinity.remember(blocks, "a")
        assert len(affinity) <= 7
        assert affinity.owners(blocks) == {"a": blocks[-1][1]}
        for length in range(1, len(blocks)):
            assert affinity.owners(blocks[:length]) == {"a": length * 100}


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Blocks with which both begin."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_a_conversation_is_at_home_where_it_was_answered_last() -> None:
    sessions = Sessions()
    sessions.settle("ann", "1", "a")
    sessions.settle("ann", "1", "b")
    assert sessions.home("ann", "1") == "b"


def test_conversations_of_others_and_other_conversations_are_elsewhere() -> None:
    sessions = Sessions()
    sessions.settle("ann", "1", "a")
    assert sessions.home("bob", "1") == sessions.home("ann", "2") == sessions.home("an", "n1") == ""


def test_conversations_that_were_not_asked_for_longest_are_forgotten() -> None:
    sessions = Sessions(most=2)
    sessions.settle("ann", "1", "a")
    sessions.settle("ann", "2", "a")
    sessions.home("ann", "1")
    sessions.settle("ann", "3", "a")
    assert [sessions.home("ann", one) for one in "123"] == ["a", "", "a"]
    assert len(sessions) == 2
