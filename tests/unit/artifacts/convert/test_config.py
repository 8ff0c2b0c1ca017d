from __future__ import annotations

import pytest

from localmodels.artifacts.convert.config import Config, shortened
from localmodels.core.errors import ModelDamaged, Unsupported


def test_a_field_that_nobody_read_is_refused_by_name() -> None:
    config = Config({"hidden_size": 8, "attention_twist": 3})
    assert config.count("hidden_size") == 8
    with pytest.raises(Unsupported, match="attention_twist = 3"):
        config.finish()


def test_a_user_may_say_that_it_computes_nothing() -> None:
    Config({"attention_twist": 3}, ignored=("attention_twist",)).finish()


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_switches_something_off_is_passed(value: object) -> None:
    Config(
        {"attention_twist": value, "transformers_version": "5", "_name_or_path": "x", "unsloth_fixed": True}
    ).finish()


@pytest.mark.parametrize("value", [None, 0, -1, 1.5, True, "8", 2**21])
def test_a_size_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ModelDamaged, match="hidden_size"):
        Config({"hidden_size": value}).count("hidden_size")


@pytest.mark.parametrize("value", ["1e-5", True, -1.0, float("inf"), float("nan"), 1e39, 10**400])
def test_a_number_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ModelDamaged, match="eps"):
        Config({"eps": value}).number("eps")


def test_one_value_of_several_must_be_there() -> None:
    config = Config({"hidden_act": "relu", "layers": 1, "flag": True})
    config.must(hidden_act=("relu", "silu"), layers=1.0, flag=True, missing="anything")
    with pytest.raises(Unsupported, match="hidden_act is 'relu'"):
        config.must(hidden_act="silu")
    with pytest.raises(Unsupported, match="flag is True"):
        config.must(flag=1)
    with pytest.raises(Unsupported, match="only with none"):
        config.must(layers=())


def test_a_long_text_is_cut_between_two_words_and_says_so() -> None:
    assert shortened("as it is", 8) == "as it is"
    assert shortened("as it is now", 9) == "as it …"
    assert shortened("x" * 20, 9) == "x" * 7 + " …"
    with pytest.raises(Unsupported, match=r"attention_twist = 'one two three four five six seven …: not known"):
        Config({"attention_twist": "one two three four five six seven eightnine"}).finish()
