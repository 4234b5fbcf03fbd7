from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, Positive, Range, parse


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: Positive
    name: Literal["sgd", "adam"] = "sgd"


@dataclass(frozen=True, kw_only=True)
class Outer:
    epochs: Count = 3
    share: Fraction | None = None
    scale: tuple[Positive, ...] = ()
    pair: tuple[int, str] = (1, "a")
    angle: Annotated[float, Range(low=-30, high=30)] = 0.0
    on: bool = False
    inner: Inner = Inner(lr=0.5, name="adam")


def test_defaults_and_nested_defaults_are_kept_under_what_is_given():
    settings = parse(Outer, {"inner": {"lr": 1}}, where="x")
    assert settings == Outer(inner=Inner(lr=1.0, name="adam"))


@dataclass(frozen=True, kw_only=True)
class Preset:
    PRESET = "policy"
    policy: Literal["plain", "busy"] = "plain"
    blur: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    views: Preset = Preset(policy="busy", blur=0.5)


def test_a_block_that_names_its_preset_has_nothing_of_the_default():
    assert parse(Holder, {"views": {"blur": 0.2}}, where="x").views == Preset(policy="busy", blur=0.2)
    assert parse(Holder, {"views": {"policy": "plain"}}, where="x").views == Preset(policy="plain", blur=0.0)
    assert parse(Holder, {"views": {"policy": "busy"}}, where="x").views == Preset(policy="busy", blur=0.0)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert parse(Inner, {"lr": "1e-4"}, where="x").lr == 1e-4


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"epoch": 3}, r"x\.epoch: unknown key; did you mean 'epochs'\?"),
        ({"inner": {"l": 3}}, r"x\.inner\.l: unknown key"),
        ({"epochs": 0}, r"x\.epochs: 0 is out of range, expected at least 1"),
        ({"epochs": 2.5}, r"x\.epochs: 2\.5 found, expected a whole number at least 1|a whole number"),
        ({"epochs": True}, "a whole number"),
        ({"share": 1.5}, r"x\.share: "),
        ({"scale": [1, -1]}, r"x\.scale\[1\]: -1\.0 is out of range, expected above 0"),
        ({"scale": 3}, r"x\.scale: 3 found, expected a list"),
        ({"pair": [1]}, r"x\.pair: 1 values found, expected 2"),
        ({"angle": 31}, "at least -30 and at most 30"),
        ({"on": "yes"}, "true or false"),
        ({"inner": {"lr": 1, "name": "sdg"}}, r"x\.inner\.name: unknown value 'sdg'; did you mean 'sgd'\?"),
        ({"inner": {"lr": float("nan")}}, r"x\.inner\.lr: nan found, expected a number"),
        ({"inner": 3}, r"x\.inner: 3 found, expected a block"),
        ([], r"x: \[\] found, expected a block"),
    ],
)
def test_mistakes_name_the_key_what_was_found_and_what_is_expected(block, message):
    with pytest.raises(UserError, match=message) as error:
        parse(Outer, block, where="x")
    assert "\n" not in str(error.value)


def test_a_missing_key_without_default_is_named():
    with pytest.raises(UserError, match=r"x\.lr: missing, expected a number above 0"):
        parse(Inner, {}, where="x")
