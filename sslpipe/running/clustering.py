"""The problem of cluster: a pretrained network and mined neighbours."""

from pathlib import Path

import torch

from sslpipe.data.images import Images
from sslpipe.data.store import Split
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array, read_json, sha256
from sslpipe.methods.cluster import scan
from sslpipe.methods.cluster._on_features import neighbors_of
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.neighbors.search import REDUCED_IMAGES
from sslpipe.nets.model_file import load_network
from sslpipe.running.comparison import Comparison
from sslpipe.running.features import StoredFeatures, open_features
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.levels import Levels

AGAIN = "run the stage mine-neighbors again"


def cluster_problem(inputs: Inputs, *, pretrained: Path, featured: Path, mined: Path) -> OpenedProblem:
    """The pretrained network, and the mined neighbours and stored features of training and held-out images."""
    network, settings = load_network(pretrained, inputs.store.info), inputs.settings
    # All methods but SCAN find the groups on the stored features; these have as many neighbours as are mined.
    on_features = not isinstance(settings, scan.Settings)
    compared = settings.compare.images > 0
    stored = None
    by_means = settings.levels.by == "means"
    if on_features or settings.head_epochs or compared or by_means:
        stored = open_features(featured, inputs.store, pretrained)
    k = getattr(settings, "neighbors", None)
    train = read_neighborhood(inputs.images, mined, "train", stored, k=k, where=inputs.where)
    held_out = Images(inputs.store.images("held_out"), inputs.images.device)
    choose = None
    if stored and compared:
        exact = are_exact(mined, stored)
        choose = Comparison(inputs, pretrained=pretrained, stored=stored, train=train, exact=exact)
    return OpenedProblem(
        problem=Problem(
            network,
            train,
            read_neighborhood(held_out, mined, "held_out", stored, k=None, where=inputs.where),
        ),
        started_from=pretrained,
        cache_key=[inputs.method],
        metadata={"method": inputs.method},
        files_read=[
            *(mined / split / "indices.npy" for split in ("train", "held_out")),
            *([stored.card] if stored else []),
        ],
        levels=Levels(neighbors_of(train), train.features if by_means else None),
        choose=choose,
    )


def are_exact(mined: Path, stored: StoredFeatures) -> bool:
    """Return whether the mined neighbours of training images are the exact nearest ones in the stored features.

    mined: output folder of mine-neighbors, whose card says how they were searched, and in which features. Raises
    UserError if it cannot be read.
    """
    card = read_json(mined / "card.json")
    settings = card.get("settings", {})
    complete = settings.get("index") == "exact" or (
        settings.get("index") == "auto" and stored.store.info.train <= REDUCED_IMAGES
    )
    plain = (settings.get("layer"), settings.get("backend") == "faiss") == ("backbone", False)
    return complete and plain and sha256(stored.card) in card.get("inputs", {}).values()


def read_neighborhood(
    images: Images, mined: Path, split: Split, stored: StoredFeatures | None, *, k: int | None, where: str
) -> Neighborhood:
    """The first k mined neighbours of a split's images (all for None), and their features if they are stored.

    mined: output folder of mine-neighbors. where: the params key of the method's settings. Raises UserError for
    neighbours that do not fit the images or are fewer than asked for, and for features that do not fit.
    """
    folder = mined / split
    indices = read_array(folder / "indices.npy")
    if len(indices) != len(images):
        raise UserError(f"{folder / 'indices.npy'}: {len(indices)} rows found, expected {len(images)}, one an image")
    if k is not None and indices.shape[1] < k:
        raise UserError(f"{where}.neighbors: {k} asked, {indices.shape[1]} mined; raise mine_neighbors.k")
    if indices.size and not 0 <= indices.min() <= indices.max() < len(images):
        raise UserError(
            f"{folder / 'indices.npy'}: indices from {indices.min()} to {indices.max()} found, expected those of "
            f"{len(images)} images; {AGAIN}"
        )
    neighbors = torch.from_numpy(indices[:, :k]).to(images.device)
    features = stored.tensor(split, images.device) if stored else None
    return Neighborhood(images, neighbors, features)
