"""Settings of a new project: a recipe, adapted to the images in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from sslpipe.decoding.deep_image import plain_number, proposed_range, shown_number
from sslpipe.io.errors import UserError
from sslpipe.io.stages import LABELLED_STAGES, TRAINING_STAGES, key_of
from sslpipe.io.text import counted
from sslpipe.io.version import own_version
from sslpipe.tools import recipes
from sslpipe.tools.features_choice import FeaturesChoice
from sslpipe.tools.folder_summary import FolderSummary
from sslpipe.tools.training_length import blocks_to_fit, shorten, shrink_batch
from sslpipe.tools.yaml_text import at, comment_at, in_one_line, put, set_comment

OWN = "own-images"
"""Start of the names of recipes for your own images, whose size is adapted to the images."""
FEATURES = f"{OWN}-features"
"""Recipe with published features, the default."""
READ_NEIGHBORS: Mapping[str, int] = {
    "cluster.scan": 5,
    "cluster.scan_heads": 20,
    "self_label.neighbors": 20,
    "semisup.propagation": 20,
}
"""Block with a key `neighbors`, at most the number of mined ones → its default."""
GUESS = 10
"""Number of clusters if there are no classes."""
FEW = 10
"""If the rarest class has fewer labels, all labels are used for training (own choice)."""
LEAST = 30
"""Minimum number of images to train on, since neighbours are mined among a tenth of them."""


def versioned(settings: CommentedMap) -> CommentedMap:
    """Return the settings of a project: sslpipe's version, then the given settings."""
    tree = CommentedMap()
    put(tree, "sslpipe", own_version(), "with another version every stage runs again")
    for key, value in settings.items():
        put(tree, key, value, comment_at(settings, key))
    return tree


def settings_for(
    recipe: str,
    summary: FolderSummary,
    images: str,
    labels: str | None,
    features: FeaturesChoice | None = None,
    folder: Path = Path(),
) -> CommentedMap:
    """Return the content of params.yaml: the settings of a recipe, adapted to the images.

    images, labels: paths for params.yaml. features: of a recipe with published features, for a project in `folder`.
    Raises UserError for an unknown recipe and for too few images.
    """
    source = recipes.load(recipe)
    if (images_to_train := summary.images - summary.test - summary.held_out) < LEAST:
        found = f"{counted(images_to_train, 'image')}{' to train on' if images_to_train < summary.images else ''}"
        raise UserError(f"--images: {found} found, expected at least {LEAST}")
    if summary.held_out == 1:
        raise UserError("--images: 1 image for model selection found in val/, expected at least 2; move it to train/")
    own = recipe.startswith(OWN)
    settings = versioned(source.settings)
    settings.insert(1, "recipe", recipe)
    set_comment(settings, "recipe", "the recipe of these settings; 'sslpipe init --labels' adds its stages with labels")
    if features is not None:
        features.put_into(settings, folder)
    # Networks that are trained halve the size several times.
    multiple = 4 if features is None else 1
    _fit_images(settings, summary, images, labels, multiple=multiple if own else None)
    train = training_images(settings, summary)
    fit_batches(settings, train, source.card.images_at_most)
    _fit_neighbors(settings, train, summary)
    _fit_classes(settings, summary)
    return settings


def _fit_images(
    tree: CommentedMap, summary: FolderSummary, images: str, labels: str | None, *, multiple: int | None
) -> None:
    """Write the block `prepare`; multiple: of which the size of small images is, None: they are enlarged."""
    size = at(tree, "prepare.size") or 32
    test, held_out = at(tree, "prepare.test"), at(tree, "prepare.held_out")
    few = 0 < summary.rarest < FEW and summary.labelled < summary.images
    draw = "blind" if not summary.rarest else "unlabelled" if few else "by_class"
    why = {
        "blind": "labels added later do not change the splits, so the pretraining is not repeated",
        "unlabelled": f"all {summary.labelled} labels are used for training, since they are few",
        "by_class": "the same share of each class",
    }[draw]
    if 0 < summary.rarest < 3 and not few:
        raise UserError(
            f"--images: {summary.rarest_class!r} has {counted(summary.rarest, 'image')} to train on, "
            "expected at least 3; add some, or leave the class out"
        )
    tree["prepare"] = CommentedMap()
    put(tree, "prepare.source", "folder")
    put(tree, "prepare.folder.path", images, str(summary))
    layout = summary.source.layout.name if summary.source else None
    put(
        tree, "prepare.folder.layout", layout, "what sub-folders are: flat, classes or parts; null: seen by their names"
    )
    put(tree, "prepare.folder.labels", labels, "a table with the columns file,label; null: labels.csv in the folder")
    if multiple and summary.side < size:
        side = max(8, summary.side // multiple * multiple)
        put(tree, "prepare.size", side, "pixels; the size of the images")
    elif multiple == 1:
        put(tree, "prepare.size", size, "pixels; the side that the networks see")
    else:
        put(tree, "prepare.size", size, "pixels; a larger size shows more detail and takes longer")
    put(tree, "prepare.channels", summary.channels)
    if summary.values:
        span = proposed_range(summary.values)
        low, high = (shown_number(value) for value in (summary.values.low, summary.values.high))
        found = f"values become 0 and 255; {summary.deep} of {summary.sampled} sampled images have {low} to {high}"
        put(tree, "prepare.value_range", in_one_line(plain_number(value) for value in span), found)
    if not summary.test:
        put(tree, "prepare.test", 0.2 if test is None else test, "share of test images, which only evaluate reads")
    if not summary.held_out:
        put(tree, "prepare.held_out", 0.1 if held_out is None else held_out, "share of the rest, for model selection")
    put(tree, "prepare.draw", draw, why)
    put(tree, "prepare.labelled", None, "all labels of training images; {per_class: 4} uses fewer")


def training_images(tree: CommentedMap, summary: FolderSummary) -> int:
    """Return the approximate number of training images."""
    test = 0.0 if summary.test or tree.get("protocol") == "full" else at(tree, "prepare.test")
    held_out = 0.0 if summary.held_out else at(tree, "prepare.held_out")
    return int((summary.images - summary.test - summary.held_out) * (1.0 - test) * (1.0 - held_out))


def fit_batches(
    tree: CommentedMap,
    train: int,
    images_at_most: int | None,
    *,
    stages: Sequence[str] = TRAINING_STAGES,
) -> None:
    """Limit batches to a quarter of the training images, and runs to `images_at_most` images through the network.

    What must stay in proportion is changed with them, see `shrink_batch` and `shorten`.
    """
    for block in blocks_to_fit({stage: tree[stage] for stage in map(key_of, stages) if stage in tree}):
        shrink_batch(tree, block, train)
        if images_at_most:
            shorten(tree, block, train, images_at_most)


def _fit_neighbors(tree: CommentedMap, train: int, summary: FolderSummary) -> None:
    """Limit the number of neighbours to half the size of an average cluster."""
    if "mine_neighbors" not in tree:
        return
    clusters = len(summary.classes) or GUESS
    most, held_out = max(2, train // (2 * clusters)), max(1, train // (18 * clusters))
    if summary.held_out:
        held_out = max(1, summary.held_out // (2 * clusters))
    for key, default, limit in (("k", 20, most), ("held_out_k", 5, held_out)):
        if (at(tree, f"mine_neighbors.{key}") or default) > limit:
            put(tree, f"mine_neighbors.{key}", limit, "half the images of an average cluster")
    limit_to_mined(tree)


def limit_to_mined(tree: CommentedMap) -> None:
    """Limit the neighbours that methods read to the number of mined ones."""
    k = at(tree, "mine_neighbors.k") or 20
    for block, default in READ_NEIGHBORS.items():
        if at(tree, block) is not None and (at(tree, f"{block}.neighbors") or default) > k:
            put(tree, f"{block}.neighbors", k, "the number of mined neighbours")


def _fit_classes(tree: CommentedMap, summary: FolderSummary) -> None:
    """Set the number of clusters, and remove the stages that need labels if no training image has one."""
    if "cluster" in tree:
        if summary.classes:
            put(tree, "cluster.clusters", len(summary.classes), "the number of classes")
        else:
            why = "a guess; after mine-neighbors, 'sslpipe estimate-clusters' suggests a number"
            put(tree, "cluster.clusters", GUESS, why)
    if not summary.rarest:
        for stage in LABELLED_STAGES:
            tree.pop(stage, None)
