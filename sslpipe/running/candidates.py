"""Comparison of a cluster model with plain baselines, by figures that need no label.

The figures of a candidate are the neighbour modularities of its groups on the graphs of several spaces: raw pixels, the
stored features, and each part of them if several networks are joined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.io.params import find_module
from sslpipe.methods.cluster._on_features import OnFeatures
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.metrics.modularity import neighbor_modularity
from sslpipe.metrics.pca import fit_pca
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.inference import infer
from sslpipe.nets.joined import names_of
from sslpipe.nets.network import Network

PIXELS, FEATURES = "pixels", "features"
BASELINES = ("kmeans", "spectral")
"""Cluster methods that are baselines of the others."""
COMPONENTS = 256
"""Principal components that the baselines of a space share, the most that any of them needs."""


@dataclass(frozen=True)
class Space:
    """A space in which images are compared, and its graph."""

    name: str
    network: Network
    """Its backbone maps images to the space; the baselines found in it get a head on it."""
    rows: Tensor
    """[n, D], float32 on the CPU."""
    neighbors: NDArray[np.int64]
    """[n, k], nearest first."""


@dataclass(frozen=True)
class Candidate:
    """Groups that are compared."""

    name: str
    """Such as "spectral, pixels"."""
    groups: NDArray[np.int64]
    """[n]."""
    figures: Mapping[str, float]
    """Space → neighbour modularity of the groups on its graph."""
    method: OnFeatures[Any] | None = None
    """The method that has found them; None for the model of the stage."""

    @property
    def rank(self) -> float:
        """The figure that ranks candidates; higher is better."""
        return rank(self.figures)


def rank(figures: Mapping[str, float]) -> float:
    """Return the figure that ranks candidates, of their neighbour modularities by the names of spaces.

    If several networks are joined, it is the smallest of their figures: a graph that had no part in a candidate does
    not flatter it. For a single network it is the mean of the figures of its features and of pixels.
    """
    parts = [value for space, value in figures.items() if space not in (PIXELS, FEATURES)]
    return min(parts) if parts else float(np.mean([figures[PIXELS], figures[FEATURES]]))


def spaces_of(
    network: Network, features: Tensor, pixels: Network, images: Images, *, neighbors: int
) -> tuple[list[Space], list[Space]]:
    """Return the two spaces of baselines, pixels and features, and the spaces whose graphs only judge.

    network: its backbone made `features` [n, D], of the images. pixels: a network of pixels. neighbors: per image.
    """
    flat = infer(pixels.eval().features, images).cpu()
    stored = features.float().cpu()
    parts: Sequence[int] = network.backbone.parts
    joined = names_of(network.settings.architecture or "") if len(parts) > 1 else ()

    def space(name: str, of: Network, rows: Tensor) -> Space:
        return Space(name, of, rows, nearest_neighbors(rows, k=min(neighbors, len(rows) - 1), device=images.device)[0])

    judges = [
        space(name, network, rows) for name, rows in zip(joined, torch.split(stored, list(parts), dim=1), strict=False)
    ]
    return [space(PIXELS, pixels, flat), space(FEATURES, network, stored)], judges


def candidates_of(
    trained: NDArray[np.int64],
    name: str,
    spaces: Sequence[Space],
    judges: Sequence[Space],
    images: Images,
    *,
    clusters: int,
    seed: int,
) -> list[Candidate]:
    """Return the stage's model and the baselines of each space, the best first.

    trained: [n] the groups of the stage's model; name: of its method. judges: further spaces with figures. images: the
    n images. clusters: number of groups of each baseline. seed: of the baselines.
    """
    everywhere = [*spaces, *judges]

    def candidate(name: str, groups: NDArray[np.int64], method: OnFeatures[Any] | None) -> Candidate:
        figures = {space.name: neighbor_modularity(groups, space.neighbors) for space in everywhere}
        return Candidate(name, groups, figures, method)

    found = [candidate(f"{name} (this run)", trained, None)]
    for space in spaces:
        near = Neighborhood(images, torch.from_numpy(space.neighbors), space.rows)
        pca = fit_pca(space.rows, COMPONENTS)
        for baseline in BASELINES:
            if (baseline, space.name) == (name, FEATURES):
                continue  # it is the stage's model
            module = find_module("sslpipe.methods.cluster", baseline, where="cluster.method")
            settings = module.Settings(clusters=clusters)
            none = Neighborhood(images, near.neighbors)
            method = module.Method(settings, Problem(space.network, near, none), pca=pca, seed=seed)
            method.after_epoch({})
            groups = method.training_logits().argmax(dim=1).numpy()
            found.append(candidate(f"{baseline}, {space.name}", groups, method))
    return sorted(found, key=lambda each: -each.rank)
