"""A memory bank of one feature for each training image (Wu et al. 2018, arXiv:1805.01978, section 3.2); its noise."""

from math import log, log1p
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.engine.method import Progress
from sslpipe.objectives.nce import nce
from sslpipe.objectives.nce_products import cosines, estimate_normalizer

NormalizerBatches = Literal["first_epoch", "first_batch"]


def unit_rows(count: int, length: int) -> Tensor:
    """[count, length] random directions from torch's global generator: the start values of a memory."""
    return F.normalize(torch.randn(count, length), dim=1)


class MemoryBank(nn.Module):
    """The features of the last visits of N images, [N, D], each of length 1."""

    rows: Tensor

    def __init__(self, images: int, length: int, *, momentum: float) -> None:
        """length: D. momentum: share of the old feature that stays in an update."""
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", unit_rows(images, length))

    @torch.no_grad()
    def update(self, index: Tensor, feature: Tensor) -> None:
        """Move the rows `index` [B] towards their images' new features [B, D]."""
        moved = self.momentum * self.rows[index] + (1 - self.momentum) * feature
        self.rows[index] = F.normalize(moved, dim=1)


class NoiseContrast(nn.Module):
    """Noise-contrastive estimation of the instance softmax (Wu et al., eq. 4 to 7), with noise rows for each image."""

    normalizer: Tensor
    """Z of eq. 4, a scalar; constant after the batches from which it is estimated."""

    def __init__(self, *, negatives: int, temperature: float, normalizer: NormalizerBatches) -> None:
        """normalizer: the batches from which Z is estimated."""
        super().__init__()
        self.negatives, self.temperature = negatives, temperature
        self.by_epoch = normalizer == "first_epoch"
        self.register_buffer("normalizer", torch.zeros(()))

    def forward(
        self, feature: Tensor, index: Tensor, memory: Tensor, progress: Progress, generator: torch.Generator
    ) -> Tensor:
        """Return the loss of unit features [B, D] and their rows `index` [B] of the memory [N, D], a scalar."""
        shape = (len(feature), self.negatives)
        noise = torch.randint(len(memory), shape, generator=generator, device=feature.device)
        cosine = cosines(feature, index, noise, memory)
        if progress.epochs < 1 if self.by_epoch else progress.step == 0:
            with torch.no_grad():
                estimate = estimate_normalizer(cosine[:, 1:], images=len(memory), temperature=self.temperature)
                self.normalizer += (estimate - self.normalizer) / (progress.step + 1)
        return nce(
            feature, index, noise, memory, temperature=self.temperature, normalizer=self.normalizer, cosine=cosine
        )


def nce_at_chance(noise: int) -> float:
    """Return `objectives.nce.nce` of M noise rows if all images are equally likely: ln(M + 1) + M ln(1 + 1/M).

    Then P = 1/N, and h = 1 / (M + 1).
    """
    return log(noise + 1) + noise * log1p(1 / noise)
