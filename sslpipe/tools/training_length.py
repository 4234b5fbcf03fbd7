"""Fit a training run to a collection: its epochs and its batch, and all settings that go in proportion to them."""

import json
from collections.abc import Mapping
from typing import Any

from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.tools.yaml_text import SCHEMA, at, put, shipped

LEAST_EPOCHS = 5
"""Minimum number of epochs, of those that train the network (own choice)."""
LEAST_PATIENCE = 2
"""Minimum patience: a single epoch without improvement ends no run (own choice)."""
CYCLE = ("ssl_epochs", "rotation_epochs", "cluster_epochs")
"""Epochs of one iteration of `semisup.alternation`: a shorter run has fewer iterations, of the same epochs."""
ENDINGS = ("_epochs", "_epoch", "patience")
"""Ends of the names of settings that count epochs."""
IN_PROPORTION = ("sgd", "lars")
"""Optimisers whose rate goes with the batch (Goyal et al. 2017, arXiv:1706.02677). Adam's stays: with its square root,
as in arXiv:2205.10287, 300 letters and 300 drawings had groups right for 0.42 and 0.50 instead of 0.55 and 0.72."""


def shrink_batch(tree: CommentedMap, block: str, train: int) -> None:
    """Limit the batch of a run to a quarter of the training images, a power of 2; see IN_PROPORTION for its rate.

    block: key of a method's settings, such as "cluster.scan"; train: number of training images.
    """
    batch, largest = at(tree, f"{block}.fit.batch"), max(8, 1 << ((train // 4).bit_length() - 1))
    if not batch or batch <= largest:
        return
    put(tree, f"{block}.fit.batch", largest, f"a quarter of {train:,} training images; {batch} in the recipe")
    optimizer = method_settings(tree, block)["fit"]["optimizer"]
    if optimizer["name"] in IN_PROPORTION:
        rate = float(f"{optimizer['lr'] * largest / batch:.3g}")
        put(tree, f"{block}.fit.optimizer.lr", rate, f"in proportion to the batch; {optimizer['lr']:g} in the recipe")


def shorten(tree: CommentedMap, block: str, train: int, images_at_most: int) -> None:
    """Limit the images that a run sends through the network to `images_at_most`, at least LEAST_EPOCHS epochs of them.

    block: key of a method's settings, such as "cluster.scan"; train: number of training images. Epochs in which SCAN
    trains heads alone on stored features send no image through the network: they do not count. Every setting of the
    method that counts epochs is multiplied by the same factor as the epochs, but for CYCLE, see there.
    """
    settings = method_settings(tree, block)
    fit = settings.get("fit")
    if not fit:
        return
    if fit["steps"] is not None:
        if (most := max(1, images_at_most // fit["batch"])) < fit["steps"]:
            note = f"about {images_at_most:,} images in total; {fit['steps']} in the recipe"
            put(tree, f"{block}.fit.steps", most, note)
        return
    alone = settings["head_epochs"] if settings.get("head_inputs") == "features" else 0
    through = max(0, fit["epochs"] - alone)
    fewer = max(LEAST_EPOCHS, images_at_most // train)
    if fewer >= through:
        return
    factor = fewer / through
    rest = round(alone * factor)
    note = f"about {images_at_most:,} images in total; {fit['epochs']} in the recipe"
    if alone:
        note = f"{fewer} of them with the network, {note}"
    put(tree, f"{block}.fit.epochs", fewer + rest, note)
    for key, value in _epochs_in(settings).items():
        if value and not key.endswith(CYCLE):
            put(tree, f"{block}.{key}", _scaled(key, value, factor), f"as fit.epochs; {_plain(value)} in the recipe")
    if "ssl_epochs" in settings:
        _fit_cycle(tree, block, settings, fewer)


def method_settings(tree: CommentedMap, block: str) -> dict[str, Any]:
    """Return the settings of a method, absent keys with their defaults; those that its stage's methods share are not.

    The defaults are read from the schema of params.yaml: the classes of the settings would load torch. Raises UserError
    for a method that the schema has not.
    """
    forms = json.loads(shipped(SCHEMA).read_text(encoding="utf-8"))["$defs"]
    if block not in forms:
        raise UserError(f"{SCHEMA}: {block} not found; 'sslpipe settings --schema' prints one that has it")
    found: dict[str, Any] = _filled({"$ref": f"#/$defs/{block}"}, at(tree, block), {}, forms)
    return found


def _filled(form: Mapping[str, Any], given: Any, default: Any, forms: Mapping[str, Any]) -> Any:
    """Return a value, or its default; a block of keys has the values given, its default's, and those of its keys.

    form: of the value, in the schema. forms: those that are referred to, by name.
    """
    properties = forms[form["$ref"].removeprefix("#/$defs/")]["properties"] if "$ref" in form else None
    if properties is not None and (given or isinstance(default, Mapping)):
        own, usual = given or {}, default or {}
        return {
            key: _filled(each, own.get(key), usual.get(key, each.get("default", {} if "$ref" in each else None)), forms)
            for key, each in properties.items()
        }
    value = default if given is None else given
    return float(value) if "number" in form.get("type", ()) and value is not None else value


def _epochs_in(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return dotted key → value of the settings that count epochs, without fit.epochs."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            found |= _epochs_in(value, f"{key}.")
        elif name.endswith(ENDINGS) and isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = value
        elif name == "lr_milestones":
            found[key] = list(value)
    return found


def _scaled(key: str, value: Any, factor: float) -> Any:
    """Return a setting that counts epochs, or a list of them, multiplied: whole numbers stay whole."""
    if isinstance(value, list):
        return [max(1, round(each * factor)) for each in value]
    least = LEAST_PATIENCE if key.endswith("patience") else 0
    return max(min(least, value), round(value * factor) if isinstance(value, int) else round(value * factor, 2))


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fit_cycle(tree: CommentedMap, block: str, settings: Mapping[str, Any], epochs: int) -> None:
    """Shorten the semi-supervised epochs of an iteration until a run of so many epochs has one with clustering."""
    others = at(tree, f"{block}.warmup_epochs")
    others = settings["warmup_epochs"] if others is None else others
    others += settings["rotation_epochs"] + settings["cluster_epochs"]
    if (most := max(1, epochs - others)) < settings["ssl_epochs"]:
        note = f"one iteration in {epochs} epochs; {settings['ssl_epochs']} in the recipe"
        put(tree, f"{block}.ssl_epochs", most, note)


def blocks_to_fit(tree: Mapping[str, Any]) -> list[str]:
    """Return the keys of the methods' blocks in `tree` that have a block `fit`, such as "cluster.scan"."""
    return [
        f"{stage}.{method}"
        for stage, content in tree.items()
        if isinstance(content, Mapping)
        for method, block in content.items()
        if isinstance(block, Mapping) and isinstance(block.get("fit"), Mapping)
    ]
