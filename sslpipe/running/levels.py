"""What the merge tree of a stage's groups is made from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.metrics.merge_tree import Tree, group_means, homes, modularity_tree, neighbor_pairs, ward_tree
from sslpipe.metrics.pca import Features


@dataclass(frozen=True)
class Levels:
    """How the groups of a model merge."""

    neighbors: NDArray[Any]
    """[N, k], neighbours of each training image."""
    features: Features | None = None
    """[N, D], whose means Ward's criterion compares; None: by neighbours."""

    def tree(self, logits: Tensor) -> Tree:
        """Return the merge tree of the groups of a model, of its predictions [N, K] for the images."""
        values = logits.detach().float().cpu().numpy()
        group, count = values.argmax(axis=1).astype(np.int64), values.shape[1]
        size, home = np.bincount(group, minlength=count), homes(group, values)
        if self.features is not None:
            return ward_tree(group_means(group, self.features, count), size, home)
        return modularity_tree(neighbor_pairs(group, self.neighbors, count), size, home)
