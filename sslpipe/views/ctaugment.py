"""CTAugment: how far each random operation may go is learned from labelled images while the network learns.

ReMixMatch (Berthelot et al. 2020), section 3.2; settings of FixMatch (Sohn et al. 2020), appendix D. An operation's
interval of magnitudes is cut into bins. Probes measure, for labelled images, how well the network still sees the label
through a bin; views draw only bins through which it does.
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
    draw_seats,
    operation_of,
)


@dataclass(frozen=True)
class Probe:
    """What is done to each image of a batch, round by round; every tensor is [depth, B]."""

    operations: int
    """Number of those that are drawn from."""

    seats: Tensor
    """int64, which operation, and its place among the images that get it (`draw_seats`)."""
    bins: Tensor
    """int64, the bin of its magnitude; one of an operation without magnitude (identity) as well."""
    share: Tensor
    """float, the magnitude's place in the operation's whole interval, within the bin."""

    @property
    def chosen(self) -> Tensor:
        """int64, the operation's place in `names`."""
        return operation_of(self.seats, self.operations)


class CTAugment(nn.Module):
    """Random operations with learned magnitudes; `rates` lies in a buffer, so that a checkpoint holds it."""

    rates: Tensor
    """float32 [operations, bins] in [0, 1]: how well the label is seen through each bin; 1 at first."""

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
        """depth: operations per image. threshold: below this part of the operation's best rate a bin is not drawn.

        decay: of the rates, per probed image. Defaults: FixMatch, appendix D; the bins are those of its code.
        """
        super().__init__()
        self.names, self.depth, self.bins = arranged(names), depth, bins
        self.threshold, self.decay = threshold, decay
        self.table = OPERATION_RANGES[ranges]
        self.register_buffer("rates", torch.ones(len(names), bins))

    def forward(self, view: Tensor, draw: Draw) -> Tensor:
        """Strong views: float [B, C, H, W] in [0, 1] → the same, by operations and magnitudes as learned."""
        # Relative to the operation's best bin, as in the code: in the paper's own terms an operation all of whose rates
        # are below the threshold would have nothing left to draw.
        weight = self.rates / self.rates.amax(1, keepdim=True)
        reached = torch.where(weight >= self.threshold, weight, 0.0).cumsum(1)
        return self.apply_probe(view, self._draw(draw, reached))

    def probe(self, draw: Draw) -> Probe:
        """What to do to labelled images to learn from: operations and bins drawn evenly."""
        return self._draw(draw, torch.ones_like(self.rates).cumsum(1))

    def apply_probe(self, view: Tensor, probe: Probe) -> Tensor:
        """Float [B, C, H, W] in [0, 1] → the same, each image by its own part of the probe."""
        return apply_operations(view, probe.seats, probe.share, names=self.names, table=self.table)

    @torch.no_grad()
    def update(self, probe: Probe, match: Tensor) -> None:
        """Learn from probed labelled images: rate ← decay · rate + (1 - decay) · match, for each bin they drew.

        match: [B] in [0, 1], 1 - half the L1 distance between the network's prediction for the probed image and its
        label (the paper's ω without its division by the number of classes, which the code does not have either).
        Images that share a bin count one after the other, in the order of the batch; the result is the closed form of
        that loop, the same on every device but for rounding.
        """
        # Image by image, as the loop goes: [B · depth].
        cell = (probe.chosen * self.bins + probe.bins).T.flatten()
        hits = one_hot(cell, self.rates.numel())
        later = hits.sum(0) - hits.cumsum(0)
        gain = hits * (1 - self.decay) * self.decay**later * match.float().repeat_interleave(self.depth)[:, None]
        # Sums over rows and no scatter, which adds in any order on CUDA.
        rates = self.rates.flatten() * self.decay ** hits.sum(0) + gain.sum(0)
        self.rates.copy_(rates.view_as(self.rates))

    def _draw(self, draw: Draw, reached: Tensor) -> Probe:
        """Operations evenly, bins by their weights, magnitudes evenly in their bins; reached: the weights' sums."""
        seats = draw_seats(draw, self.depth, len(self.names))
        at = torch.stack([draw.uniform(0.0, 1.0) for _ in range(self.depth)])
        sums = reached[operation_of(seats, len(self.names))]
        # The first bin whose sum lies above a point drawn in [0, total): never one of weight 0.
        bins = (sums <= at[..., None] * sums[..., -1:]).sum(-1)
        within = torch.stack([draw.uniform(0.0, 1.0) for _ in range(self.depth)])
        return Probe(len(self.names), seats, bins, (bins + within) / self.bins)
