"""Settings that change an inherited default keep the bounds of its values."""

from dataclasses import fields
from importlib import import_module
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from sslpipe.io.params import siblings

MODULES = [
    f"sslpipe.methods.{stage}.{name}"
    for stage in ("pretrain", "cluster", "self_label", "semisup", "finetune")
    for name in siblings(f"sslpipe.methods.{stage}")
]


def bounds(hint):
    """All bounds in a type hint, also in the parts of a union."""
    if get_origin(hint) is Annotated:
        return set(get_args(hint)[1:])
    return set().union(*map(bounds, get_args(hint)))


@pytest.mark.parametrize("module", MODULES)
def test_a_setting_keeps_the_bounds_of_the_one_that_it_replaces(module):
    settings = import_module(module).Settings
    hints = get_type_hints(settings, include_extras=True)
    for base in settings.__mro__[1:-1]:
        replaced = get_type_hints(base, include_extras=True)
        assert {field.name: bounds(hints[field.name]) for field in fields(base)} == {
            field.name: bounds(replaced[field.name]) for field in fields(base)
        }
