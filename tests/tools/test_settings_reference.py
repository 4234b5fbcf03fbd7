"""The reference of all settings: what it prints is what the classes take."""

import re
from dataclasses import fields
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml

from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.tools.settings_reference import REQUIRED, as_text, as_yaml, blocks, nested_of, settings_of, texts

BLOCKS = blocks()
EFFECT = re.compile(r"(^|[.;:)] )(Larger|More): \w")
"""What a larger value of a number does: a sentence of its text that begins with one of these words."""
WITHOUT_EFFECT = {
    ("Labelled", "fold"): "the number of a random choice",
    ("sslpipe.sources.stl10.Settings", "fold"): "the number of a fold",
}
"""Class and field of numbers whose size has no meaning → why."""


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_pasted_as_it_is_printed_has_the_defaults(name):
    rows = [row for row in settings_of(name) if row.key.startswith(f"{name}.")]
    required = {row.key.removeprefix(f"{name}."): row for row in rows if row.default == REQUIRED}
    if required:
        assert all(f"# {key.rpartition('.')[2]}: " in as_yaml(rows) for key in required)
        return
    tree = yaml.safe_load(as_yaml(rows)) or {}
    for part in name.split("."):
        tree = tree.get(part) or {}
    around = {"clusters": 3, "compare": {}}
    shared = ("clusters", "compare") if name.startswith("cluster.") else ()
    given, empty = (parse(BLOCKS[name], block, where=name, around=around, shared=shared) for block in (tree, {}))
    assert given == empty


@pytest.mark.parametrize("name", BLOCKS)
def test_every_key_has_a_text(name):
    assert [row.key for row in settings_of(name) if not row.text] == []


def is_number(hint):
    """Whether a type is a number, or null or a list with numbers; a choice of numbers is none."""
    if get_origin(hint) is Literal:
        return False
    if get_origin(hint) is Annotated:
        return is_number(get_args(hint)[0])
    return hint in (int, float) or any(map(is_number, get_args(hint)))


def classes_of(cls):
    """A class of settings, and those of the blocks within it."""
    yield cls
    for hint in get_type_hints(cls).values():
        if nested := nested_of(hint):
            yield from classes_of(nested)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_text_of_a_number_says_what_a_larger_one_does(name):
    without = set()
    for cls in dict.fromkeys(classes_of(BLOCKS[name])):
        hints = get_type_hints(cls, include_extras=True)
        for field in fields(cls):
            if is_number(hints[field.name]) and not EFFECT.search(texts(cls)[field.name]):
                without.add((field.name, cls.__name__, f"{cls.__module__}.{cls.__name__}"))
    assert [key for key, *names in without if not any((each, key) in WITHOUT_EFFECT for each in names)] == []


def test_a_stage_has_what_its_methods_share_once():
    keys = [row.key for row in settings_of("cluster")]
    assert keys.count("cluster.clusters") == keys.count("cluster.compare.gap") == 1
    assert {"cluster.scan.entropy_weight", "cluster.scan_heads.steps", "cluster.scan.fit.optimizer.lr"} <= set(keys)


def test_a_key_and_a_block_within_a_block_are_found():
    (row,) = settings_of("cluster.scan_heads.heads")
    assert (row.default, row.values) == (10, "a whole number at least 2")
    assert row.text.startswith("Number of heads")
    assert {row.key for row in settings_of("pretrain.simclr.fit.schedule")} >= {"pretrain.simclr.fit.schedule.name"}


def test_the_entry_of_a_method_is_found_by_its_list_alone():
    keys = ["start", "labels", "reliable.agreement", "reliable.neighbors", "reliable.share"]
    for name, block in (("METHOD", "semisup.methods"), ("uda", "semisup.methods.uda")):
        assert [row.key for row in settings_of(block)] == [f"semisup.methods.{name}.{key}" for key in keys]
    assert [row.key for row in settings_of("finetune.methods")] == ["finetune.methods.METHOD.start"]
    (row,) = settings_of("semisup.methods.uda.reliable.agreement")
    assert (row.default, row.values) == (0.95, "a number at least 0 and at most 1")
    assert EFFECT.search(row.text)
    assert not any(".methods." in row.key for row in settings_of())
    with pytest.raises(UserError, match=r"^settings: 'semisup\.methods\.udb' is no block and no key"):
        settings_of("semisup.methods.udb")


def test_text_fits_the_width():
    text = as_text(settings_of("semisup"), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "semisup.fixmatch.threshold: " in text
