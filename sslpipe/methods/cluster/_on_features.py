"""Base class of the cluster methods that give a frozen network a head, found on its stored features at once."""

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslpipe.io.errors import UserError
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.metrics.modularity import neighbor_modularity
from sslpipe.metrics.pca import Features, Pca
from sslpipe.nets.heads import Head
from sslpipe.nets.inference import logits_of
from sslpipe.nets.network import Network

CPU = torch.device("cpu")


class SomeSettings(Protocol):
    """What all settings of these methods have."""

    @property
    def clusters(self) -> int:
        """Number of clusters."""


S = TypeVar("S", bound=SomeSettings)


class OnFeatures(nn.Module, ABC, Generic[S]):
    """A cluster method that needs no training loop: `after_epoch` finds the groups, `selected` returns the network."""

    collapse_hint = "choose another cluster.method or cluster.clusters"

    def __init__(self, settings: S, problem: Problem, *, pca: Pca | None = None, seed: int | None = None) -> None:
        """Check the number of clusters.

        pca: of the features, if it has been computed. seed: of all random numbers; None: drawn from torch's global
        generator. With one the method is a baseline of another one, and prints nothing.
        """
        super().__init__()
        clusters = settings.clusters
        if clusters > len(problem.train.images):
            raise UserError(f"cluster.clusters: {clusters} is more than {len(problem.train.images)} training images")
        if problem.train.features is None:
            raise ValueError("problem: features are missing")
        self.settings = settings
        self.network = problem.network.requires_grad_(False)
        self.train_set, self.held_out = problem.train, problem.held_out
        self.pca = pca
        self.is_baseline = seed is not None
        self.seed = int(torch.randint(2**31 - 1, ())) if seed is None else seed
        self._head: Head | None = None
        self._logits: Tensor | None = None

    @property
    def features(self) -> Features:
        """The stored features of the training images, [N, D]."""
        assert self.train_set.features is not None
        return self.train_set.features

    @abstractmethod
    def find(self) -> tuple[Head, dict[str, float]]:
        """Return the head with the groups' logits for features [B, D], and further columns of the history."""

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Find the groups; return the columns of the only row of the history.

        modularity: see `neighbor_modularity`, on the mined neighbours. terms: none.
        """
        self._head, columns = self.find()
        self._logits = logits_of(self._head, self.features, CPU)
        row = {"modularity": modularity_of(self._logits, self.train_set), **columns}
        if self.held_out.features is not None and len(self.held_out.features):
            held_out = logits_of(self._head, self.held_out.features, CPU)
            row["held_out/modularity"] = modularity_of(held_out, self.held_out)
        return row

    def training_logits(self) -> Tensor:
        """Return the logits [N, K] of the training images, computed from their stored features."""
        assert self._logits is not None
        return self._logits

    def selected(self) -> Network:
        """The network with the head that `find` returned."""
        assert self._head is not None
        self.network.head = self._head.to(self.network.mean.device)
        return self.network.requires_grad_(True)


def modularity_of(logits: Tensor, given: Neighborhood) -> float:
    """Return the neighbour modularity of each image's most probable cluster on the mined neighbours."""
    return neighbor_modularity(logits.argmax(dim=1).numpy(), neighbors_of(given))


def neighbors_of(given: Neighborhood) -> NDArray[np.int64]:
    """Return the mined neighbours [N, K] as an array."""
    return given.neighbors.cpu().numpy()
