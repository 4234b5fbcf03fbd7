"""The problem of cluster: a pretrained network and mined neighbours."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.data.images import Images
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.methods.cluster.scan import Settings
from sslpipe.nets.model_file import load_network
from sslpipe.running.inputs import Inputs, OpenedProblem

AGAIN = "run the stage mine-neighbors again"


def cluster_problem(inputs: Inputs, *, pretrained: Path, mined: Path) -> OpenedProblem:
    """The pretrained network and the mined neighbours of the training and of the held-out images."""
    network, settings = load_network(pretrained, inputs.store.info), inputs.settings
    dimension = network.backbone.dimension
    held_out = Images(inputs.store.images("held_out"), inputs.images.device)
    return OpenedProblem(
        problem=Problem(
            network,
            read_neighborhood(inputs.images, mined / "train", settings, k=settings.neighbors, dimension=dimension),
            read_neighborhood(held_out, mined / "held_out", settings, k=None, dimension=dimension),
        ),
        started_from=pretrained,
        cache_key=[inputs.method],
        metadata={"method": inputs.method},
        files_read=[mined / "train" / "indices.npy", mined / "held_out" / "indices.npy"],
    )


def read_neighborhood(
    images: Images, folder: Path, settings: Settings, *, k: int | None, dimension: int
) -> Neighborhood:
    """The first k mined neighbours of a split's images (all for None), and the cached features if heads alone learn.

    folder: what mine-neighbors wrote for the split. dimension: length of a feature. Raises UserError where it does not
    fit the images or the backbone, holds fewer neighbours than are asked for, or features that are not finite.
    """
    indices = read_array(folder / "indices.npy")
    if len(indices) != len(images):
        raise UserError(f"{folder / 'indices.npy'}: {len(indices)} rows found, expected {len(images)}, one an image")
    if k is not None and indices.shape[1] < k:
        raise UserError(f"cluster.scan.neighbors: {k} asked, {indices.shape[1]} mined; raise mine_neighbors.k")
    if indices.size and not 0 <= indices.min() <= indices.max() < len(images):
        raise UserError(
            f"{folder / 'indices.npy'}: indices from {indices.min()} to {indices.max()} found, expected those of "
            f"{len(images)} images; {AGAIN}"
        )
    neighbors = torch.from_numpy(indices[:, :k]).to(images.device)
    features = None
    if settings.head_epochs:
        features = torch.from_numpy(_read_features(folder / "features.npy", len(images), dimension)).to(images.device)
    return Neighborhood(images, neighbors, features)


def _read_features(path: Path, images: int, dimension: int) -> NDArray[np.float32]:
    """The cached features [N, D] of a split. Raises UserError for another shape or values that are not finite."""
    features = read_array(path)
    if features.shape != (images, dimension) or features.dtype != np.float32:
        found = f"{features.dtype} {list(features.shape)}"
        raise UserError(f"{path}: {found} found, expected float32 [{images}, {dimension}]; {AGAIN}")
    if broken := int((~np.isfinite(features)).any(axis=1).sum()):
        raise UserError(f"{path}: values that are not finite found in {broken} of {images} rows; {AGAIN}")
    return features
