"""The reference of all settings: what it prints is what the classes take."""

import pytest
import yaml

from sslpipe.io.settings import parse
from sslpipe.tools.settings_reference import REQUIRED, as_text, as_yaml, blocks, settings_of

BLOCKS = blocks()


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


def test_a_stage_has_what_its_methods_share_once():
    keys = [row.key for row in settings_of("cluster")]
    assert keys.count("cluster.clusters") == keys.count("cluster.compare.gap") == 1
    assert {"cluster.scan.entropy_weight", "cluster.scan_heads.steps", "cluster.scan.fit.optimizer.lr"} <= set(keys)


def test_a_key_and_a_block_within_a_block_are_found():
    (row,) = settings_of("cluster.scan_heads.heads")
    assert (row.default, row.values) == (10, "a whole number at least 2")
    assert row.text.startswith("Number of heads")
    assert {row.key for row in settings_of("pretrain.simclr.fit.schedule")} >= {"pretrain.simclr.fit.schedule.name"}


def test_text_fits_the_width():
    text = as_text(settings_of("semisup"), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "semisup.fixmatch.threshold: " in text
