"""A recipe's settings, fitted to the images that were seen."""

from collections.abc import Sequence
from typing import Any

from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.io.stages import LABELLED_STAGES, TRAINING_STAGES, key_of
from sslpipe.io.version import own_version
from sslpipe.tools import recipes
from sslpipe.tools.folder_summary import FolderSummary
from sslpipe.tools.yaml_text import at, comment_at, put, set_comment

OWN = "own-images"
"""How the recipes are called that are for images of one's own: their size may be the images'."""
GUESS = 10
"""Groups, where nothing is known."""
FEW = 10
"""Below so many labels of the rarest class all of them are kept for training (own choice)."""
LEAST = 30
"""Images that a project needs: neighbours are mined among a tenth of them."""
LEAST_EPOCHS = 5


def versioned(settings: CommentedMap) -> CommentedMap:
    """Settings as a project has them: sslpipe's version first."""
    tree = CommentedMap()
    put(tree, "sslpipe", own_version(), "another version runs every stage again")
    for key, value in settings.items():
        put(tree, key, value, comment_at(settings, key))
    return tree


def settings_for(recipe: str, seen: FolderSummary, images: str, labels: str | None) -> CommentedMap:
    """The content of params.yaml: a recipe, fitted to the images.

    images, labels: as params.yaml names them. Raises UserError for an unknown recipe and for too few images.
    """
    found = recipes.load(recipe)
    if seen.images < LEAST:
        raise UserError(f"--images: {seen.images} images found, expected at least {LEAST}")
    own = recipe.startswith(OWN)
    fitted = versioned(found.settings)
    fitted.insert(1, "recipe", recipe)
    set_comment(fitted, "recipe", "what it was made from; --labels takes the stages that it adds from there")
    _fit_images(fitted, seen, images, labels, own=own)
    train = training_images(fitted, seen)
    fit_batches(fitted, train, found.card.images_at_most)
    _fit_neighbors(fitted, train, seen)
    _fit_classes(fitted, seen)
    return fitted


def _fit_images(tree: CommentedMap, seen: FolderSummary, images: str, labels: str | None, *, own: bool) -> None:
    """The block `prepare`."""
    size = at(tree, "prepare.size") or 32
    test, held_out = at(tree, "prepare.test"), at(tree, "prepare.held_out")
    few = 0 < seen.rarest < FEW and seen.labelled < seen.images
    draw = "blind" if not seen.classes else "unlabelled" if few else "by_class"
    why = {
        "blind": "labels that come later move no image and repeat no pretraining",
        "unlabelled": f"{seen.labelled} labels are few: all of them serve training",
        "by_class": "each class gives its share",
    }[draw]
    if seen.classes and not few and seen.rarest < 3:
        raise UserError(f"--images: a class has {seen.rarest} images to train on, expected at least 3; leave it out")
    tree["prepare"] = CommentedMap()
    put(tree, "prepare.source", "folder")
    put(tree, "prepare.folder.path", images, str(seen))
    put(tree, "prepare.folder.labels", labels, "a CSV with the columns file,label; null: labels.csv in the folder")
    if own and seen.side < size:
        put(tree, "prepare.size", max(8, seen.side // 4 * 4), "pixels; the images' own")
    else:
        put(tree, "prepare.size", size, "pixels; larger ones see more and take longer")
    put(tree, "prepare.channels", seen.channels)
    if not seen.has_test:
        put(tree, "prepare.test", 0.2 if test is None else test, "share that only evaluate opens")
    put(tree, "prepare.held_out", 0.1 if held_out is None else held_out, "share of the rest, for model choice")
    put(tree, "prepare.draw", draw, why)
    put(tree, "prepare.labelled", None, "all labels of training images; {per_class: 4} uses fewer")


def training_images(tree: CommentedMap, seen: FolderSummary) -> int:
    """About how many images training sees."""
    kept = 1.0 if seen.has_test or tree.get("protocol") == "full" else 1.0 - at(tree, "prepare.test")
    return int(seen.images * kept * (1.0 - at(tree, "prepare.held_out")))


def _fits(tree: Any, above: str = "") -> list[str]:
    """Dotted keys of all blocks named `fit`."""
    found = []
    for key, value in tree.items() if isinstance(tree, dict) else ():
        name = f"{above}{key}"
        found += [name] if key == "fit" and isinstance(value, dict) else _fits(value, f"{name}.")
    return found


def fit_batches(
    tree: CommentedMap,
    train: int,
    images_at_most: int | None,
    *,
    stages: Sequence[str] = tuple(map(key_of, TRAINING_STAGES)),
) -> None:
    """Batches of at most a quarter of the images; epochs as the time allows that the recipe was made for."""
    for key in _fits({stage: tree[stage] for stage in map(key_of, stages) if stage in tree}):
        batch, epochs = at(tree, f"{key}.batch"), at(tree, f"{key}.epochs")
        largest = max(8, 1 << ((train // 4).bit_length() - 1))
        if batch and batch > largest:
            put(tree, f"{key}.batch", largest, f"a quarter of {train:,} images to train on; the recipe has {batch}")
        if epochs and images_at_most and epochs * train > images_at_most:
            fewer = max(LEAST_EPOCHS, images_at_most // train)
            put(tree, f"{key}.epochs", fewer, f"some {images_at_most:,} images in all; the recipe has {epochs}")


def _fit_neighbors(tree: CommentedMap, train: int, seen: FolderSummary) -> None:
    """No more neighbours than there are images of a group."""
    if "mine_neighbors" not in tree:
        return
    groups = len(seen.classes) or GUESS
    most, held_out = max(2, train // (2 * groups)), max(1, train // (18 * groups))
    for key, default, limit in (("k", 20, most), ("held_out_k", 5, held_out)):
        if (at(tree, f"mine_neighbors.{key}") or default) > limit:
            put(tree, f"mine_neighbors.{key}", limit, "half of what a group has, if groups are of one size")
    k = at(tree, "mine_neighbors.k") or 20
    if (at(tree, "cluster.neighbors") or 5) > k:
        put(tree, "cluster.neighbors", k, "as many as are mined")


def _fit_classes(tree: CommentedMap, seen: FolderSummary) -> None:
    """The number of groups, and the stages that need labels."""
    if "cluster" in tree:
        if seen.classes:
            put(tree, "cluster.clusters", len(seen.classes), "as many as classes")
        else:
            why = "a guess: 'sslpipe estimate-clusters' suggests a number after mine-neighbors"
            put(tree, "cluster.clusters", GUESS, why)
    if not seen.classes:
        for stage in LABELLED_STAGES:
            tree.pop(stage, None)
