"""CTAugment: random operations whose magnitudes are learned from labelled images during the training.

Source: ReMixMatch (arXiv:1911.09785), section 3.2; defaults of FixMatch (arXiv:2001.07685), appendix D. The interval of
magnitudes of an operation is divided into bins. Probes measure for labelled images how well the network still predicts
the label when a bin is applied; views use only bins with a high rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from sslpipe.views.draw import Draw
from sslpipe.views.operations import (
    OPERATION_RANGES,
    OperationName,
    RangesName,
    apply_operations,
    arranged,
    draw_slots,
    operation_of,
)


@dataclass(frozen=True)
class Probe:
    """Random operations and magnitudes for each image of a batch; all tensors are [depth, B]."""

    operations: int
    """Number of different operations."""

    slots: Tensor
    """int64, the slot of each image, which gives its operation (see `draw_slots`)."""
    bins: Tensor
    """int64, the bin of the magnitude; also for an operation without magnitude (identity)."""
    share: Tensor
    """float in [0, 1), the position of the magnitude in the operation's whole interval, within the bin."""

    @property
    def chosen(self) -> Tensor:
        """int64, the index of the operation in `CTAugment.names`."""
        return operation_of(self.slots, self.operations)


class CTAugment(nn.Module):
    """Random operations with learned magnitudes; `rates` is a buffer, so that a checkpoint contains it."""

    rates: Tensor
    """float32 [operations, bins] in [0, 1]: how well the label is predicted when a bin is applied; initially 1."""

    def __init__(
        self,
        names: Sequence[OperationName],
        *,
        ranges: RangesName = "fixmatch",
        depth: int = 2,
        bins: int = 17,
        threshold: float = 0.8,
        decay: float = 0.99,
    ) -> None:
        """Set all rates to 1.

        names: the operations. ranges: their intervals of magnitudes. depth: operations per image. bins: bins per
        interval (FixMatch's public code). threshold: bins whose rate is below this fraction of the operation's best
        rate are not used. decay: decay of the rates per probed image. Source of the other defaults: FixMatch, appendix
        D.
        """
        super().__init__()
        self.names, self.depth, self.bins = arranged(names), depth, bins
        self.threshold, self.decay = threshold, decay
        self.table = OPERATION_RANGES[ranges]
        self.register_buffer("rates", torch.ones(len(names), bins))

    def forward(self, view: Tensor, draw: Draw) -> Tensor:
        """Return strong views of float images [B, C, H, W] in [0, 1], with magnitudes according to the rates."""
        # Relative to the operation's best bin, as in the public code: by the paper's formula, an operation whose rates
        # are all below the threshold would have no bin left.
        weight = self.rates / self.rates.amax(1, keepdim=True)
        reached = torch.where(weight >= self.threshold, weight, 0.0).cumsum(1)
        return self.apply_probe(view, self._draw(draw, reached))

    def probe(self, draw: Draw) -> Probe:
        """Return a probe for labelled images, with uniformly random operations and bins."""
        return self._draw(draw, torch.ones_like(self.rates).cumsum(1))

    def apply_probe(self, view: Tensor, probe: Probe) -> Tensor:
        """Apply a probe to float images [B, C, H, W] in [0, 1]; the result has the same shape and range."""
        return apply_operations(view, probe.slots, probe.share, names=self.names, table=self.table)

    @torch.no_grad()
    def update(self, probe: Probe, match: Tensor) -> None:
        """Update the rates of the bins in a probe: rate ← decay · rate + (1 - decay) · match.

        match: [B] in [0, 1], 1 minus half the L1 distance between the network's prediction for the probed image and its
        label (ω of the paper without the division by the number of classes, as in the public code).
        Images with the same bin are applied in the order of the batch; this is the closed form of that loop, so the
        result is the same on every device except for rounding.
        """
        # [B · depth], in the order of the loop over images.
        cell = (probe.chosen * self.bins + probe.bins).T.flatten()
        hits = one_hot(cell, self.rates.numel())
        later = hits.sum(0) - hits.cumsum(0)
        gain = hits * (1 - self.decay) * self.decay**later * match.float().repeat_interleave(self.depth)[:, None]
        # Sums over rows instead of a scatter, whose order of additions is not deterministic on CUDA.
        rates = self.rates.flatten() * self.decay ** hits.sum(0) + gain.sum(0)
        self.rates.copy_(rates.view_as(self.rates))

    def _draw(self, draw: Draw, reached: Tensor) -> Probe:
        """Return a probe with uniform operations, bins by weight, and uniform magnitudes within the bins.

        reached: [operations, bins], cumulative sums of the bins' weights.
        """
        slots = draw_slots(draw, self.depth, len(self.names))
        at = torch.stack([draw.uniform(0.0, 1.0) for _ in range(self.depth)])
        sums = reached[operation_of(slots, len(self.names))]
        # The first bin whose cumulative sum exceeds a random point in [0, total): never one of weight 0.
        bins = (sums <= at[..., None] * sums[..., -1:]).sum(-1)
        within = torch.stack([draw.uniform(0.0, 1.0) for _ in range(self.depth)])
        return Probe(len(self.names), slots, bins, (bins + within) / self.bins)
