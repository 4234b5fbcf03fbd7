"""Distribution alignment (ReMixMatch, Berthelot et al. 2020, section 3.1; CoMatch and SimMatch, eq. 2)."""

import torch
from torch import Tensor, nn

from sslpipe.engine import world


class DistributionAlignment(nn.Module):
    """Scales answers so that, on average over the last steps, every class is given as often as it should be."""

    window: Tensor
    seen: Tensor
    target: Tensor

    def __init__(self, classes: int, *, steps: int, target: Tensor | None = None) -> None:
        """steps: length of the moving window. target: [C] the classes' shares; None: all equal."""
        super().__init__()
        self.register_buffer("window", torch.zeros(steps, classes))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("target", torch.full((classes,), 1 / classes) if target is None else target)

    @torch.no_grad()
    def forward(self, probability: Tensor) -> Tensor:
        """Normalise(p · target / p_avg) of [B, C], the batch being part of the average."""
        steps = len(self.window)
        self.window.index_copy_(0, (self.seen % steps)[None], world.gather(probability).mean(dim=0, keepdim=True))
        self.seen += 1
        average = self.window.sum(dim=0) / self.seen.clamp(max=steps)
        aligned = probability * self.target / average.clamp(min=1e-6)
        return aligned / aligned.sum(dim=1, keepdim=True)
