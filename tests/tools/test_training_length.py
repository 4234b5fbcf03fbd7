"""A run that is fitted to a collection keeps in proportion what belongs together."""

import copy
from dataclasses import asdict

import pytest
import yaml
from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.io.params import find_module
from sslpipe.io.settings import parse
from sslpipe.io.stages import SHARED_KEYS
from sslpipe.methods.cluster import scan
from sslpipe.tools.autoconfig import settings_for
from sslpipe.tools.folder_summary import FolderSummary
from sslpipe.tools.training_length import (
    LEAST_EPOCHS,
    _epochs_in,
    blocks_to_fit,
    method_settings,
    shorten,
    shrink_batch,
)
from sslpipe.tools.yaml_text import at, put, shipped

SGD = {"name": "sgd", "lr": 0.1}


def fitted(images, recipe="own-images-cpu"):
    summary = FolderSummary(
        images=images, width=100, height=110, side=100, channels=3, broken=0, sampled=200,
        classes=tuple("abcdefghij"), labelled=images, rarest=images // 10, rarest_class="c",
    )  # fmt: skip
    return settings_for(recipe, summary, "photos", None)


def tree_of(block, **settings):
    tree = CommentedMap()
    for key, value in settings.items():
        put(tree, f"{block}.{key}", commented(value))
    return tree


def commented(value):
    return CommentedMap({key: commented(each) for key, each in value.items()}) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped("recipes").glob("*.yaml")))
def test_settings_by_the_schema_are_those_of_the_classes(name):
    tree = yaml.safe_load((shipped("recipes") / f"{name}.yaml").read_text())
    for block in blocks_to_fit(tree):
        stage, _, method = block.partition(".")
        module = find_module(f"sslpipe.methods.{stage}", method, where=stage)
        shared = SHARED_KEYS.get(stage, ())
        expected = parse(module.Settings, at(tree, block), where=block, around=tree[stage], shared=shared)
        found = method_settings(tree, block)
        by_schema, by_class = (
            {key: (value, type(value)) for key, value in _epochs_in(each).items() if value}
            for each in (found, asdict(expected))
        )
        assert by_schema == by_class  # with their types: whole numbers stay whole
        for key in ("epochs", "steps", "batch"):
            assert found["fit"][key] == getattr(expected.fit, key)
        assert found.get("head_inputs") == getattr(expected, "head_inputs", None)


def test_a_method_that_the_schema_has_not_is_one_line():
    with pytest.raises(UserError, match=r"^params\.schema\.json: semisup\.mine not found; 'sslpipe settings --schema'"):
        method_settings(tree_of("semisup.mine", fit={"epochs": 1}), "semisup.mine")


@pytest.mark.parametrize("recipe", ["own-images-cpu", "own-images"])
@pytest.mark.parametrize("images", [1_400, 14_000, 70_000, 700_000, 7_000_000])
def test_init_leaves_epochs_in_which_scan_trains_the_network(images, recipe):
    before = fitted(1000, recipe)["cluster"]["scan"]
    tree = fitted(images, recipe)["cluster"]["scan"]
    heads, epochs = tree["head_epochs"], tree["fit"]["epochs"]
    through = before["fit"]["epochs"] - before["head_epochs"]
    assert min(LEAST_EPOCHS, through) <= epochs - heads <= through
    assert heads == pytest.approx((epochs - heads) * before["head_epochs"] / through, abs=0.5)


def test_epochs_of_heads_alone_are_no_images_of_the_budget():
    # 10 of the 110 epochs send 10,000 images through the network.
    tree = fitted(13_889)["cluster"]["scan"]
    assert (tree["head_epochs"], tree["fit"]["epochs"]) == (100, 110)


def test_epochs_of_heads_on_views_are_images_of_the_budget():
    block = {"neighbors": 5, "head_epochs": 50, "head_inputs": "views", "fit": {"epochs": 100, "batch": 10}}
    tree = tree_of("cluster.scan", **block)
    tree["cluster"]["clusters"] = 3
    shorten(tree, "cluster.scan", 1000, 20_000)
    assert (at(tree, "cluster.scan.head_epochs"), at(tree, "cluster.scan.fit.epochs")) == (10, 20)


def test_warm_up_and_patience_shrink_with_the_epochs():
    tree = fitted(70_000)  # 7 epochs of 50,400 images are 400,000
    assert tree["pretrain"]["simclr"]["fit"]["epochs"] == 7
    assert tree["pretrain"]["simclr"]["fit"]["schedule"]["warmup_epochs"] == 0.35
    assert tree["self_label"]["confident"]["patience"] == 4  # of 10 in 20 epochs
    tree = fitted(7_000_000)
    assert tree["self_label"]["confident"]["patience"] == 2


@pytest.mark.parametrize(
    ("block", "given", "expected"),
    [
        # Keys that are absent have their defaults, which count epochs as well.
        ("pretrain.swav", {}, {"frozen_epochs": 0.1, "queue_from_epoch": 1.5}),
        ("pretrain.dino", {"teacher_temperature_epochs": 30}, {"teacher_temperature_epochs": 3, "frozen_epochs": 0.1}),
        ("semisup.daino", {}, {"teacher_temperature_epochs": 1}),
        ("semisup.simmatch", {"instance_from_epoch": 1}, {"instance_from_epoch": 0.1}),
    ],
    ids=str,
)
def test_starts_and_ends_of_phases_shrink_with_the_epochs(block, given, expected):
    tree = tree_of(block, **given, fit={"epochs": 100, "batch": 10, "optimizer": SGD})
    shorten(tree, block, 1000, 10_000)
    assert at(tree, f"{block}.fit.epochs") == 10
    for key, value in expected.items():
        assert at(tree, f"{block}.{key}") == value, key


@pytest.mark.parametrize(("epochs", "ssl_epochs"), [(100, None), (40, None), (10, 6), (5, 2)])
def test_a_shorter_alternation_has_fewer_iterations_but_still_clusters(epochs, ssl_epochs):
    block = "semisup.alternation"
    optimizer = {**SGD, "weight_decay": 1e-4}
    fit = {"epochs": 200, "batch": 10, "optimizer": optimizer}
    tree = tree_of(block, warmup_epochs=40, rotation_epochs=1, cluster_epochs=1, lr_milestones=[100], fit=fit)
    shorten(tree, block, 1000, 1000 * epochs)
    assert at(tree, f"{block}.warmup_epochs") == epochs // 5
    assert at(tree, f"{block}.lr_milestones") == [epochs // 2]
    assert at(tree, f"{block}.ssl_epochs") == ssl_epochs
    assert (at(tree, f"{block}.rotation_epochs"), at(tree, f"{block}.cluster_epochs")) == (1, 1)
    settings = parse(
        find_module("sslpipe.methods.semisup", "alternation", where="").Settings, at(tree, block), where=""
    )
    assert settings.warmup_epochs + settings.ssl_epochs + 2 <= epochs


def test_a_run_that_fits_is_left_alone_and_steps_are_limited_as_steps():
    block = "pretrain.byol"
    text = "{pretrain: {byol: {fit: {epochs: 10, batch: 10, optimizer: {name: sgd, lr: 0.1}}}}}"
    tree = CommentedMap(yaml.safe_load(text))
    shorten(tree, block, 1000, 10_000)
    assert tree == yaml.safe_load(text)
    tree = tree_of(block, fit={"epochs": 10, "steps": 900, "batch": 10, "optimizer": SGD})
    shorten(tree, block, 1000, 5_000)
    assert at(tree, f"{block}.fit") == {"epochs": 10, "steps": 500, "batch": 10, "optimizer": SGD}


@pytest.mark.parametrize(
    ("head_epochs", "fit", "printed"),
    [(100, {"epochs": 55}, True), (55, {"epochs": 55}, True), (54, {"epochs": 55}, False), (2, {"steps": 19}, True)],
)
def test_scan_prints_that_the_backbone_is_never_trained(head_epochs, fit, printed, capsys):
    given = scan.Settings(clusters=3)
    given = parse(scan.Settings, {"head_epochs": head_epochs, "fit": fit}, where="cluster.scan", base=given)
    scan.check_length(given, 1280)  # ten steps an epoch
    out = capsys.readouterr().out
    assert ("the backbone stays as it is" in out) is printed
    assert out.count("\n") == printed


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.03), ("lars", 0.03), ("adam", 0.12), ("adamw", 0.12)])
def test_a_smaller_batch_has_a_smaller_rate_but_for_adam(optimizer, rate):
    fit = {"batch": 256, "epochs": 10, "optimizer": {"name": optimizer, "lr": 0.12}}
    tree = tree_of("semisup.simmatch", fit=fit)
    shrink_batch(tree, "semisup.simmatch", 256)
    assert at(tree, "semisup.simmatch.fit.batch") == 64
    assert at(tree, "semisup.simmatch.fit.optimizer.lr") == pytest.approx(rate)


def test_a_batch_that_fits_changes_nothing():
    fit = {"batch": 64, "epochs": 10, "optimizer": dict(SGD)}
    tree = tree_of("semisup.simmatch", labelled_batch=64, fit=fit)
    before = copy.deepcopy(tree)
    shrink_batch(tree, "semisup.simmatch", 256)
    assert tree == before


def test_init_of_few_images_with_a_published_recipe_keeps_batch_and_rate_together():
    few, many = (fitted(images, "scan-cifar10-code")["pretrain"]["simclr"]["fit"] for images in (1000, 10_000))
    assert few["batch"] < many["batch"]
    assert few["optimizer"]["lr"] / many["optimizer"]["lr"] == pytest.approx(few["batch"] / many["batch"], rel=0.01)
