"""Comparison of a cluster model with plain baselines, by figures that need no label.

The figures of a candidate are the neighbour modularities of its groups on the graphs of several spaces: raw pixels, the
stored features, each part of them if several published networks are joined, and the features of judges
(`cluster.compare.judges`).
"""

from collections.abc import Callable, Mapping, Sequence
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
from sslpipe.metrics.pca import Pca, fit_pca
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.architecture_names import names_of
from sslpipe.nets.inference import infer
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
    pca: Pca | None = None
    """COMPONENTS principal components of the rows, if they have been computed."""


@dataclass(frozen=True)
class Known:
    """What the stage has of the stored features of all compared images, so that it is not computed again."""

    neighbors: NDArray[np.int64] | None = None
    """[n, K], the exact nearest neighbours among these images, nearest first."""
    pca: Pca | None = None
    """COMPONENTS principal components."""


NOTHING = Known()


@dataclass(frozen=True)
class Ranking:
    """Which figures of a candidate rank it, and how they become one."""

    graphs: tuple[str, ...]
    """Names of the spaces whose figures count."""
    combine: Callable[[Sequence[float]], float]
    """min or the mean."""

    def __call__(self, figures: Mapping[str, float]) -> float:
        """Return the figure that ranks a candidate, of its neighbour modularities by the names of spaces."""
        return float(self.combine([figures[name] for name in self.graphs]))


@dataclass(frozen=True)
class Spaces:
    """The spaces of a comparison."""

    baselines: Sequence[Space]
    """Those in which baselines are found."""
    graphs: Sequence[Space]
    """Those whose graphs give figures."""
    ranking: Ranking


@dataclass(frozen=True)
class Judges:
    """Published networks that have no part in the project, and their features."""

    network: Network
    """All of them, joined."""
    rows: Tensor
    """[n, D], float32 on the CPU."""


@dataclass(frozen=True)
class Candidate:
    """Groups that are compared."""

    name: str
    """Such as "spectral, pixels"."""
    groups: NDArray[np.int64]
    """[n]."""
    figures: Mapping[str, float]
    """Space → neighbour modularity of the groups on its graph."""
    ranking: Ranking
    method: OnFeatures[Any] | None = None
    """The method that has found them; None for the model of the stage."""

    @property
    def rank(self) -> float:
        """The figure that ranks candidates; higher is better."""
        return self.ranking(self.figures)


def ranking_of(published: Sequence[str], judges: Sequence[str]) -> Ranking:
    """Return the rule that ranks candidates.

    published: names of the spaces of the project's networks if they are published and used without training; () for a
    network that was trained. judges: names of the judges' spaces.

    A graph flatters groups that were found on its features. So the smallest figure ranks if the graphs of at least two
    published networks judge. Groups of a trained network are ranked by the mean of the figures of pixels and judges,
    and its own graph does not count: the smallest figure alone favours groups that were found on the judges' features
    (by 0.016 on digits, own measurement). Where nothing else judges, it is the mean of pixels and features.
    """
    if published and len(published) + len(judges) > 1:
        return Ranking((*published, *judges), min)
    if judges and not published:
        return Ranking((PIXELS, *judges), np.mean)
    return Ranking((PIXELS, FEATURES), np.mean)


def spaces_of(
    network: Network,
    features: Tensor,
    pixels: Network,
    images: Images,
    *,
    published: Sequence[str],
    judges: Judges | None,
    neighbors: int,
    known: Known = NOTHING,
) -> Spaces:
    """Return the spaces of a comparison.

    Baselines are found on pixels and on the stored features, and for a trained network on the judges' features, joined.

    network: its backbone made `features` [n, D], of the images. pixels: a network of pixels. published: the networks'
    architectures if they are published and used without training, else (). neighbors: per image. known: of
    `features`; more neighbours than it has are searched.
    """

    def space(name: str, of: Network, rows: Tensor, known: Known = NOTHING) -> Space:
        k, near = min(neighbors, len(rows) - 1), known.neighbors
        if near is None or near.shape[1] < k:
            near = nearest_neighbors(rows, k=k, device=images.device)[0]
        return Space(name, of, rows, near[:, :k], known.pca)

    def part_spaces(of: Network, rows: Tensor) -> list[Space]:
        names, parts = names_of(of.settings.architecture or ""), torch.split(rows, list(of.backbone.parts), dim=1)
        return [space(name, of, part) for name, part in zip(names, parts, strict=True)]

    stored = features.float().cpu()
    plain = [
        space(PIXELS, pixels, infer(pixels.eval().features, images).cpu()),
        space(FEATURES, network, stored, known),
    ]
    own = part_spaces(network, stored) if len(published) > 1 else []
    others = part_spaces(judges.network, judges.rows) if judges else []
    names = [each.name for each in others]
    joined = []
    if judges and not published:
        joined = others if len(others) == 1 else [space("+".join(names), judges.network, judges.rows)]
    own_names = [each.name for each in own] or [FEATURES] * len(published)
    return Spaces([*plain, *joined], [*plain, *own, *others], ranking_of(own_names, names))


def candidates_of(
    trained: NDArray[np.int64],
    name: str,
    spaces: Spaces,
    images: Images,
    *,
    clusters: int,
    seed: int,
) -> list[Candidate]:
    """Return the stage's model and the baselines of each space, the best first.

    trained: [n] the groups of the stage's model; name: of its method. images: the n images. clusters: number of groups
    of each baseline. seed: of the baselines.
    """

    def candidate(name: str, groups: NDArray[np.int64], method: OnFeatures[Any] | None) -> Candidate:
        figures = {space.name: neighbor_modularity(groups, space.neighbors) for space in spaces.graphs}
        return Candidate(name, groups, figures, spaces.ranking, method)

    found = [candidate(f"{name} (this run)", trained, None)]
    for space in spaces.baselines:
        near = Neighborhood(images, torch.from_numpy(space.neighbors), space.rows)
        pca = space.pca or fit_pca(space.rows, COMPONENTS)
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
