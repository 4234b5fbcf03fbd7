"""The JSON Schema of params.yaml: it takes all that the stages take, and knows most of what they refuse."""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from sslpipe.io.errors import UserError
from sslpipe.io.params import Params
from sslpipe.reporting.settings import ReportSettings
from sslpipe.running.feature_runtime import FeatureSettings
from sslpipe.tools import recipes
from sslpipe.tools.settings_reference import blocks, settings_of
from sslpipe.tools.settings_schema import schema, schema_text
from sslpipe.tools.yaml_text import HEAD, SCHEMA

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "io"), str(ROOT / "tests" / "tools")]
from recipe_runs import ALONE, PACKAGES, read  # noqa: E402
from test_mutated_params import mutated  # noqa: E402

MADE = schema()
VALIDATOR = Draft202012Validator(MADE)
DIGITS = yaml.safe_load((ROOT / "params.yaml").read_text())


def errors(tree):
    """Dotted key and message of each mistake that the schema sees."""
    return [(".".join(map(str, error.absolute_path)), error.message) for error in VALIDATOR.iter_errors(tree)]


def test_it_is_a_schema_and_the_file_in_the_repository_is_up_to_date():
    Draft202012Validator.check_schema(MADE)
    assert (ROOT / SCHEMA).read_text(encoding="utf-8") == schema_text(), f"sslpipe settings --schema > {SCHEMA}"
    assert (ROOT / "params.yaml").read_text().startswith(HEAD)


@pytest.mark.parametrize("name", recipes.names())
def test_it_takes_every_recipe(name):
    assert errors(yaml.safe_load((recipes.folder() / f"{name}.yaml").read_text(encoding="utf-8"))) == []


def test_it_takes_the_demonstration_and_knows_all_its_keys():
    assert errors(DIGITS) == []


@pytest.mark.parametrize("seed", range(2))
def test_it_is_never_stricter_than_the_stages_and_seldom_laxer(tmp_path, seed):
    path = tmp_path / "params.yaml"
    both = Counter()
    for number in range(60):
        tree, where = mutated(DIGITS, random.Random(1000 * seed + number))
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))  # as an editor sees it
        try:
            project = Params(path)
            project.check_stages({**ALONE, **PACKAGES})
            read(path)
            project.parse(FeatureSettings, "features")
            project.parse(ReportSettings, "report")
        except UserError:
            both["refused", bool(errors(tree))] += 1
            continue
        assert errors(tree) == [], (where, tree)
        both["taken", True] += 1
    seen, missed = both["refused", True], both["refused", False]
    assert seen > 4 * missed, both


@pytest.mark.parametrize("stage", sorted({row.key.partition(".")[0] for row in settings_of()}))
def test_it_refuses_every_misspelled_key(stage):
    for row in settings_of(stage):
        refuses_with_a_letter_too_many(row)


def refuses_with_a_letter_too_many(row):
    tree = {"pretrain": {"method": "simclr"}, "network": {"name": "pixels"}}
    tree |= {"cluster": {"method": "scan", "clusters": 3}, "self_label": {"method": "confident"}}
    *parents, name = row.key.split(".")
    block = tree
    for parent in parents:
        block = block.setdefault(parent, {})
    block[f"{name}x"] = row.default
    assert any(
        where == ".".join(parents) and f"'{name}x' was unexpected" in message for where, message in errors(tree)
    ), row.key


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"seed": -1}, "seed"),
        ({"protocol": "half"}, "protocol"),
        ({"prepare": {"source": "folder"}}, "prepare"),
        ({"prepare": {"source": "digits", "size": 0}}, "prepare.size"),
        ({"network": {}}, "network"),
        ({"network": {"name": "resnet19"}}, "network.name"),
        ({"cluster": {"method": "scan"}}, "cluster"),
        ({"cluster": {"method": "scan", "clusters": 1}}, "cluster.clusters"),
        ({"cluster": {"method": "scan", "clusters": 3, "scan": {"clusters": 3}}}, "cluster.scan"),
        ({"pretrain": {"method": "simclr", "simclr": {"fit": None}}}, "pretrain.simclr.fit"),
        ({"pretrain": {"method": "simclr", "simclr": {"temperature": 0}}}, "pretrain.simclr.temperature"),
        ({"pretrain": {"method": "dino", "dino": {"teacher_temperature": [1]}}}, "pretrain.dino.teacher_temperature"),
        ({"pretrain": {"method": "swav", "swav": {"local_views": {"x": 1}}}}, "pretrain.swav.local_views"),
        ({"semisup": {"daino": {"second_global_views": {"blr": 1}}}}, "semisup.daino.second_global_views"),
        ({"semisup": {"methods": {"fixmatch": {"from": "pretrain"}}}}, "semisup.methods.fixmatch"),
        ({"semisup": {"methods": {"fixmtch": {}}}}, "semisup.methods"),
        ({"semisup": {"methods": {"uda": {"labels": "relieble"}}}}, "semisup.methods.uda.labels"),
        ({"semisup": {"methods": {"uda": {"reliable": {"share": 0}}}}}, "semisup.methods.uda.reliable.share"),
        ({"finetune": {"methods": {"linear": {"labels": "reliable"}}}}, "finetune.methods.linear"),
        ({"semisup": {"alternation": {"ssl": {"copies": 2}}}}, "semisup.alternation.ssl"),
        ({"semisup": {"alternation": {"base": "uda", "ssl": {"copies": 2}}}}, "semisup.alternation.ssl"),
        ({"semisup": {"alternation": {"ssl": {"threshold": 2}}}}, "semisup.alternation.ssl.threshold"),
        ({"semisup": {"alternation": {"base": "mixmatch", "ssl": {"fit": {}}}}}, "semisup.alternation.ssl"),
        ({"recipe": {"title": "x", "aims_at": "y"}}, "recipe"),
    ],
)  # fmt: skip
def test_it_refuses(change, where):
    assert [key for key, _ in errors(DIGITS | change)] == [where]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "own-images", "sslpipe": "0.4.0"},
        {"features": None, "semisup": None},
        {"pretrain": {"method": "simclr", "simclr": None}},
        {"pretrain": {"method": "simclr", "simclr": {"temperature": "1e-1", "fit": {"optimizer": {"lr": "1e-3"}}}}},
        {"pretrain": {"method": "frozen", "frozen": {"weights": ["package", None]}}},
        {"semisup": {"methods": {"fixmatch": None}, "alternation": {"base": "mixmatch", "ssl": {"copies": 2}}}},
        {"semisup": {"methods": {}, "fixmatch": {"weak": None}}},
        {"semisup": {"methods": {"uda": {"labels": "reliable", "reliable": {"agreement": 0.9, "neighbors": None}}}}},
    ],
)
def test_it_takes(change):
    assert errors(DIGITS | change) == []


@pytest.mark.parametrize("stage", ["pretrain", "semisup", "finetune"])
def test_a_stage_that_builds_a_network_needs_the_block(stage):
    alone = {stage: DIGITS[stage]}
    assert errors(alone) == [("", f"'network' is a dependency of '{stage}'")]
    assert errors({"prepare": DIGITS["prepare"]}) == errors({**alone, "network": DIGITS["network"]}) == []


def test_a_default_is_what_every_place_of_the_class_has():
    """Each default in the schema is that of the reference, at all places where the class is used."""
    rows = {row.key: row for row in settings_of()}
    for key, row in rows.items():
        found = MADE["properties"]
        for part in key.split("."):
            block = found.get(part) or {}
            while "$ref" in block:
                block = {
                    **MADE["$defs"][block["$ref"].rpartition("/")[2]],
                    **{k: v for k, v in block.items() if k != "$ref"},
                }
            found = block.get("properties", {})
        if "default" in block and not isinstance(row.default, dict):
            assert block["default"] == row.default, key
        assert block["description"] == row.text, key


def test_every_block_of_the_pipeline_is_in_it():
    named = {name for name in blocks() if "." in name}
    assert named <= set(MADE["$defs"])
    assert len(json.dumps(MADE)) < 200_000
