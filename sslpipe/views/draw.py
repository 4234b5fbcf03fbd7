"""Random parameters, one per image, from one explicit generator."""

import torch
from torch import Tensor


class Draw:
    """Draws for a batch of `count` images; every tensor lies on the generator's device."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator

    def uniform(self, low: float, high: float) -> Tensor:
        """float32 [count], uniform in [low, high)."""
        unit = torch.rand(self.count, generator=self.generator, device=self.generator.device)
        return low + (high - low) * unit

    def whole(self, low: int, high: int) -> Tensor:
        """int64 [count], uniform in low..high, both included."""
        return torch.randint(low, high + 1, (self.count,), generator=self.generator, device=self.generator.device)

    def order(self, length: int) -> Tensor:
        """int64 [length], 0 to length - 1 in random order, whatever the count."""
        return torch.randperm(length, generator=self.generator, device=self.generator.device)

    def chance(self, probability: float) -> Tensor:
        """Bool [count], true with the given probability."""
        return self.uniform(0.0, 1.0) < probability

    def normal(self, *shape: int) -> Tensor:
        """float32 [count, *shape], standard normal."""
        return torch.randn((self.count, *shape), generator=self.generator, device=self.generator.device)
