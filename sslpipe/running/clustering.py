"""The problem of cluster: a pretrained network and mined neighbours."""

from pathlib import Path

import torch

from sslpipe.data.images import Images
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array
from sslpipe.methods.cluster.scan import Neighborhood, Problem, Settings
from sslpipe.nets.model_file import load_network
from sslpipe.running.inputs import Inputs, OpenedProblem


def cluster_problem(inputs: Inputs, *, pretrained: Path, mined: Path) -> OpenedProblem:
    """The pretrained network and the mined neighbours of the training and of the held-out images."""
    network, settings = load_network(pretrained, inputs.store.info), inputs.settings
    held_out = Images(inputs.store.images("held_out"), inputs.images.device)
    return OpenedProblem(
        problem=Problem(
            network,
            read_neighborhood(inputs.images, mined / "train", settings, k=settings.neighbors),
            read_neighborhood(held_out, mined / "held_out", settings, k=None),
        ),
        started_from=pretrained,
        files_read=[mined / "train" / "indices.npy", mined / "held_out" / "indices.npy"],
    )


def read_neighborhood(images: Images, folder: Path, settings: Settings, *, k: int | None) -> Neighborhood:
    """The first k mined neighbours of a split's images (all for None), and the cached features if heads alone learn.

    folder: what mine-neighbors wrote for the split. Raises UserError where it does not fit the images or holds fewer
    neighbours than are asked for.
    """
    indices = read_array(folder / "indices.npy")
    if len(indices) != len(images):
        raise UserError(f"{folder / 'indices.npy'}: {len(indices)} rows found, expected {len(images)}, one an image")
    if k is not None and indices.shape[1] < k:
        raise UserError(f"cluster.neighbors: {k} asked, {indices.shape[1]} mined; raise mine_neighbors.k")
    neighbors = torch.from_numpy(indices[:, :k]).to(images.device)
    features = None
    if settings.head_epochs:
        features = torch.from_numpy(read_array(folder / "features.npy")).to(images.device)
    return Neighborhood(images, neighbors, features)
