"""Outputs of models for the images that are evaluated, from their stored features where a model's backbone has them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint
from sslpipe.nets.inference import head_probabilities, probabilities
from sslpipe.nets.network import Network
from sslpipe.running.features import StoredFeatures


@dataclass(frozen=True)
class FeatureRows:
    """Stored features of images, in place of the images."""

    splits: tuple[Tensor, ...]
    """[N, D] of each split, one after the other, of any floating type."""

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def subset(self, index: Tensor) -> "FeatureRows":
        """Return the rows with these indices (int64 [L]), in this order."""
        index = index.to(self.splits[0].device)
        if len(self.splits) == 1:
            return FeatureRows((self.splits[0][index],))
        found = self.splits[0].new_empty((len(index), self.splits[0].shape[1]))
        start = 0
        for rows in self.splits:
            own = (index >= start) & (index < start + len(rows))
            found[own] = rows[index[own] - start]
            start += len(rows)
        return FeatureRows((found,))

    def unit(self) -> NDArray[np.float32]:
        """Return the rows as L2-normalised vectors [N, D]."""
        vectors = torch.empty((len(self), self.splits[0].shape[1]), device=self.splits[0].device)
        torch.cat(self.splits, out=vectors) if len(self.splits) > 1 else vectors.copy_(self.splits[0])
        return F.normalize(vectors, dim=1, out=vectors).cpu().numpy()


class Forward:
    """The images that are evaluated, and what models predict for them."""

    def __init__(self, images: Images, stored: StoredFeatures | None) -> None:
        """images: those that `Store.scored` returns. stored: the pretrained backbone's features, if they are stored."""
        self.images, self._stored = images, stored

    @cached_property
    def features(self) -> tuple[Tensor, ...]:
        """The stored features of the images of each split, float16 [N, D], on their device."""
        assert self._stored is not None
        return self._stored.scored(self.images.device)

    def probabilities(self, network: Network, folder: Path) -> NDArray[np.float32]:
        """Return the softmax of a network's logits, [N, K].

        network: that of `folder`, on the device of the images, in eval mode. With the backbone of the stored features,
        only its head is computed; the features' rounding changes a probability by some 0.001 at most.
        """
        if self._stored is None or backbone_fingerprint(folder) != self._stored.backbone:
            return probabilities(network, self.images)
        return np.concatenate([head_probabilities(network, rows) for rows in self.features])
