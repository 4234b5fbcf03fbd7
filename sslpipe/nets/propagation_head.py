"""The head of a classifier by few labels on stored features: neighbours' propagated labels, a linear probe, or both."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.settings import Count, Positive

Answer = Literal["propagation", "probe", "product"]

QUERIES = 512
"""Images that are compared with the bank at a time (own choice)."""
BLOCK = 16_384
"""Images of the bank that they are compared with at a time: 33 MB of cosines (own choice)."""
SAME = 0.9999
"""Cosine from which an image counts as the one in the bank. Rounding to float16 changes the cosine of 256 components
by 1e-6 at most, other sums on another device by some 1e-5."""
FLOOR = 1e-6
"""Least probability of a class by propagation: a class that no path of the graph leads to is improbable, not
impossible, so that the probe can still decide in a product (own choice)."""


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """Settings of a head that predicts classes from a bank of images with propagated labels, and a linear probe."""

    kind: Literal["propagation"] = "propagation"
    """The kind of head."""
    answer: Answer
    """propagation: the neighbours' classes. probe: a linear layer. product: the sum of both log-probabilities."""
    classes: Count
    """Number of classes."""
    images: Count | None
    """Number of images in the bank; null for the probe, which has no bank."""
    components: Count | None
    """Dimension that unit features are reduced to; null: they are not reduced."""
    neighbors: Count = 20
    """Images of the bank that an image's classes come from."""
    power: Positive = 3.0
    """Power of the cosine that is a neighbour's weight."""

    def build(self, dimension: int) -> "PropagationHead":
        """Return the head for features [B, dimension]."""
        return PropagationHead(dimension, self)


class PropagationHead(nn.Module):
    """Classes of an image by those of its nearest images in a bank, whose labels were propagated over their graph.

    For an unlabelled image of the bank, label propagation (Zhou et al. 2004) gives F_i ∝ Σ_j W_ij F_j / √d_j over its
    neighbours in the graph. A new image has the same sum over its nearest images, with weights cosine^power, and an
    image of the bank its own F. The probe is a linear layer on the same reduced unit features.
    """

    basis: Tensor
    """float32 [D, d], orthonormal columns that unit features are mapped by."""
    bank: Tensor
    """float16 [N, d], reduced unit features."""
    probability: Tensor
    """float16 [N, C], F of each image, its sum scaled to 1."""
    weight: Tensor
    """float32 [N], that sum before the scaling, divided by √d_j."""

    def __init__(self, dimension: int, settings: PropagationSettings) -> None:
        super().__init__()
        self.settings = settings
        reduced = settings.components or dimension
        if settings.components is not None:
            self.register_buffer("basis", torch.zeros(dimension, reduced))
        if settings.images is not None:
            self.register_buffer("bank", torch.zeros(settings.images, reduced, dtype=torch.float16))
            self.register_buffer("probability", torch.zeros(settings.images, settings.classes, dtype=torch.float16))
            self.register_buffer("weight", torch.ones(settings.images))
        self.probe = None if settings.answer == "propagation" else nn.Linear(reduced, settings.classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, C], which are the logarithms of probabilities but for a product's sum."""
        with torch.autocast(features.device.type, enabled=False):
            unit = self.reduce(features.float())
            if torch.compiler.is_exporting():  # a graph for any batch size cannot have parts of it
                return self._logits(unit)
            return torch.cat([self._logits(few) for few in torch.split(unit, QUERIES)])

    def reduce(self, features: Tensor) -> Tensor:
        """Map features [B, D] to reduced unit features [B, d]."""
        unit = F.normalize(features, dim=1)
        return unit if self.settings.components is None else F.normalize(unit @ self.basis, dim=1)

    def _logits(self, unit: Tensor) -> Tensor:
        """Map reduced unit features [B, d] to logits [B, C]."""
        logits = unit.new_zeros(())
        if self.settings.images is not None:
            logits = self.propagated(unit).clamp_min(FLOOR).log()
        if self.probe is not None:
            logits = logits + self.probe(unit).log_softmax(dim=1)
        return logits

    def propagated(self, unit: Tensor) -> Tensor:
        """Return the probabilities [B, C] of the classes by the nearest images of reduced unit features [B, d].

        They are equal for an image whose cosines with all images of the bank are 0 or less.
        """
        cosine, index = self.nearest(unit)
        weight = cosine.clamp_min(0) ** self.settings.power * self.weight[index]  # [B, k]
        each = F.embedding(index, self.probability).float()  # [B, k, C]
        scores = (weight[:, :, None] * each).sum(dim=1)
        total = scores.sum(dim=1, keepdim=True)
        probability = torch.where(total > 0, scores / total.clamp_min(1e-30), 1 / self.settings.classes)
        return torch.where(cosine[:, :1] >= SAME, each[:, 0], probability)

    def nearest(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines and the indices of the k nearest images of the bank, [B, k] each, the nearest first."""
        cosines: list[Tensor] = []
        indices: list[Tensor] = []
        count = len(self.bank)
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            # Rounding to float16 has changed their norms.
            products = unit @ F.normalize(self.bank[start:stop].float(), dim=1).T
            cosine, index = products.topk(min(self.settings.neighbors, stop - start), dim=1)
            cosines, indices = [*cosines, cosine], [*indices, index + start]
            if len(cosines) > 1:
                every = torch.cat(indices, dim=1)
                cosine, place = torch.cat(cosines, dim=1).topk(min(self.settings.neighbors, every.shape[1]), dim=1)
                cosines, indices = [cosine], [every.gather(1, place)]
        return cosines[0], indices[0]
