"""Random parameters for each image of a batch, from an explicit generator."""

import torch
from torch import Tensor


class Draw:
    """Random draws for a batch of `count` images; all tensors are on the generator's device."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator

    def uniform(self, low: float, high: float) -> Tensor:
        """Return float32 [count], uniform in [low, high)."""
        return self.uniforms(1, low, high)[:, 0]

    def uniforms(self, times: int, low: float, high: float) -> Tensor:
        """Return float32 [count, times], uniform in [low, high)."""
        unit = torch.rand((self.count, times), generator=self.generator, device=self.generator.device)
        return low + (high - low) * unit

    def whole(self, low: int, high: int) -> Tensor:
        """Return int64 [count], uniform in low..high, both included."""
        return torch.randint(low, high + 1, (self.count,), generator=self.generator, device=self.generator.device)

    def order(self, length: int) -> Tensor:
        """Return int64 [length], 0 to length - 1 in random order; it does not depend on `count`."""
        return torch.randperm(length, generator=self.generator, device=self.generator.device)

    def bernoulli(self, probability: float) -> Tensor:
        """Return bool [count], true with the given probability."""
        return self.uniform(0.0, 1.0) < probability

    def normal(self, *shape: int) -> Tensor:
        """Return float32 [count, *shape], standard normal."""
        return torch.randn((self.count, *shape), generator=self.generator, device=self.generator.device)
