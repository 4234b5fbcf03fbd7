"""Distribution alignment (ReMixMatch, arXiv:1911.09785, section 3.1; SimMatch, arXiv:2203.06915, eq. 2)."""

import torch
from torch import Tensor, nn


class DistributionAlignment(nn.Module):
    """Scales predictions so that their mean over the last steps is the target distribution of the classes."""

    window: Tensor
    steps_seen: Tensor
    target: Tensor

    def __init__(self, classes: int, *, steps: int, target: Tensor | None = None) -> None:
        """steps: length of the moving window. target: [C], the classes' shares; None: all equal."""
        super().__init__()
        self.register_buffer("window", torch.zeros(steps, classes))
        self.register_buffer("steps_seen", torch.tensor(0))
        self.register_buffer("target", torch.full((classes,), 1 / classes) if target is None else target)

    @torch.no_grad()
    def forward(self, probability: Tensor) -> Tensor:
        """Normalised p · target / p_avg of probabilities p, [B, C]; the average includes this batch."""
        steps = len(self.window)
        self.window.index_copy_(0, (self.steps_seen % steps)[None], probability.mean(dim=0, keepdim=True))
        self.steps_seen += 1
        average = self.window.sum(dim=0) / self.steps_seen.clamp(max=steps)
        aligned = probability * self.target / average.clamp(min=1e-6)
        return aligned / aligned.sum(dim=1, keepdim=True)
