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

from sslpipe.data import world
from sslpipe.views.draw import Draw
from sslpipe.views.operations import OperationName, apply_operations, draw_operations
from sslpipe.views.pools import POOLS, PoolName


@dataclass(frozen=True)
class Probe:
    """Random operations and numbers for each image of a batch: the magnitude and, in some pools, a detail (P = 2)."""

    chosen: Tensor
    """int64 [depth, B], the index of the operation in `CTAugment.names`."""
    bins: Tensor
    """int64 [P, depth, B], the bins of the numbers; also for an operation that does not use them."""
    shares: Tensor
    """float [P, depth, B] in [0, 1), the positions of the numbers in their whole intervals, within the bins."""

    def own(self) -> "Probe":
        """The probe of this process's rows of the batch."""
        rows = world.own_rows(0)
        return Probe(self.chosen[:, rows], self.bins[..., rows], self.shares[..., rows])


class CTAugment(nn.Module):
    """Random operations with learned magnitudes; `rates` is a buffer, so that a checkpoint contains it."""

    rates: Tensor
    """float32 [operations, P, bins] in [0, 1]: how well the label is predicted when a bin is applied; initially 1."""
    counts: Tensor
    """int64 [operations, P]: the bins that an interval has; rates of further bins are not used."""

    def __init__(
        self,
        names: Sequence[OperationName],
        *,
        pool: PoolName = "fixmatch",
        depth: int = 2,
        bins: int = 17,
        threshold: float = 0.8,
        decay: float = 0.99,
    ) -> None:
        """Set all rates to 1.

        names: the operations. pool: the pool that they are from. depth: operations per image. bins: bins of an interval
        that has no number of its own (FixMatch's public code). threshold: bins whose rate is below this fraction of the
        operation's best rate are not used. decay: decay of the rates per probed image. Source of the other defaults:
        FixMatch, appendix D.
        """
        super().__init__()
        self.pool, self.depth, self.bins = POOLS[pool], depth, bins
        self.names = self.pool.arranged(names)
        self.threshold, self.decay = threshold, decay
        operations = [self.pool.operations[name] for name in self.names]
        counts = [[min(operation.bins or bins, bins), max(operation.details, 1)] for operation in operations]
        numbers = 2 if any(operation.details for operation in operations) else 1
        self.register_buffer("counts", torch.tensor(counts)[:, :numbers], persistent=False)
        self.register_buffer("rates", torch.ones(len(names), numbers, max(bins, *(count[-1] for count in counts))))

    def forward(self, view: Tensor, draw: Draw) -> Tensor:
        """Return strong views of float images [B, C, H, W] in [0, 1], with magnitudes according to the rates."""
        # Relative to the operation's best bin and with a little added, so that rates of 0 divide nothing by 0, as in
        # the public code: by the paper's formula, an operation whose rates are all below the threshold would have no
        # bin left.
        rates = torch.where(self._in_use(), self.rates + (1 - self.decay), 0.0)
        weight = rates / rates.amax(2, keepdim=True)
        return self.apply_probe(view, self._draw(draw, torch.where(weight >= self.threshold, weight, 0.0)))

    def probe(self, draw: Draw) -> Probe:
        """Return a probe for labelled images, with uniformly random operations and bins."""
        return self._draw(draw, self._in_use().float())

    def apply_probe(self, view: Tensor, probe: Probe) -> Tensor:
        """Apply a probe to float images [B, C, H, W] in [0, 1]; the result has the same shape and range."""
        share, detail = probe.shares[0], probe.shares[-1]
        return apply_operations(view, probe.chosen, share, detail, names=self.names, pool=self.pool)

    @torch.no_grad()
    def update(self, probe: Probe, match: Tensor) -> None:
        """Update the rates of the bins in a probe: rate ← decay · rate + (1 - decay) · match.

        match: [B] in [0, 1], 1 minus half the L1 distance between the network's prediction for the probed image and its
        label (ω of the paper without the division by the number of classes, as in the public code).
        Images with the same bin are applied in the order of the batch; this is the closed form of that loop, so the
        result is the same on every device except for rounding.
        """
        # [B · depth · P], in the order of the loop over images.
        numbers, bins = self.rates.shape[1:]
        number = torch.arange(numbers, device=probe.bins.device)[:, None, None]
        cell = ((probe.chosen * numbers + number) * bins + probe.bins).permute(2, 1, 0).flatten()
        hits = one_hot(cell, self.rates.numel())
        later = hits.sum(0) - hits.cumsum(0)
        matches = match.float().repeat_interleave(self.depth * numbers)[:, None]
        gain = hits * (1 - self.decay) * self.decay**later * matches
        # Sums over rows instead of a scatter, whose order of additions is not deterministic on CUDA.
        rates = self.rates.flatten() * self.decay ** hits.sum(0) + gain.sum(0)
        self.rates.copy_(rates.view_as(self.rates))

    def _in_use(self) -> Tensor:
        """Return bool [operations, P, bins]: which bins there are."""
        return torch.arange(self.rates.shape[2], device=self.rates.device) < self.counts[..., None]

    def _draw(self, draw: Draw, weight: Tensor) -> Probe:
        """Return a probe with uniform operations, bins by weight [operations, P, bins], and uniform numbers in them."""
        chosen = draw_operations(draw, self.depth, len(self.names))
        bins, shares = [], []
        for sums, count in zip(weight.cumsum(2).unbind(1), self.counts.unbind(1), strict=True):
            at = torch.stack([draw.uniform(0.0, 1.0) for _ in range(self.depth)])
            # The first bin whose cumulative sum exceeds a random point in [0, total): never one of weight 0.
            drawn = (sums[chosen] <= at[..., None] * sums[chosen][..., -1:]).sum(-1)
            drawn = torch.minimum(drawn, count[chosen] - 1)
            within = torch.stack([draw.uniform(0.0, 1.0) for _ in range(self.depth)])
            bins.append(drawn)
            shares.append((drawn + within) / count[chosen])
        return Probe(chosen, torch.stack(bins), torch.stack(shares))
