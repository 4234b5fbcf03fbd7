"""Random parameters for each image of a batch, from an explicit generator."""

import torch
from torch import Tensor


class Draw:
    """Random draws for some rows, by default all, of a batch of `count` images, on the generator's device.

    They are made for the whole batch, so that those of a row do not depend on which rows are wanted.
    """

    def __init__(self, count: int, generator: torch.Generator, rows: slice = slice(None)) -> None:
        """rows: those of the L images that the draws are for."""
        self.count, self.generator, self.rows = count, generator, rows

    @property
    def length(self) -> int:
        """L, the number of rows."""
        return len(range(self.count)[self.rows])

    def uniform(self, low: float, high: float) -> Tensor:
        """Return float32 [L], uniform in [low, high)."""
        return self.uniforms(1, low, high)[:, 0]

    def uniforms(self, times: int, low: float, high: float) -> Tensor:
        """Return float32 [L, times], uniform in [low, high)."""
        unit = torch.rand((self.count, times), generator=self.generator, device=self.generator.device)
        return low + (high - low) * unit[self.rows]

    def whole(self, low: int, high: int) -> Tensor:
        """Return int64 [L], uniform in low..high, both included."""
        drawn = torch.randint(low, high + 1, (self.count,), generator=self.generator, device=self.generator.device)
        return drawn[self.rows]

    def order(self, length: int) -> Tensor:
        """Return int64 [length], 0 to length - 1 in random order; it does not depend on `count`."""
        return torch.randperm(length, generator=self.generator, device=self.generator.device)

    def bernoulli(self, probability: float) -> Tensor:
        """Return bool [L], true with the given probability."""
        return self.uniform(0.0, 1.0) < probability

    def normal(self, *shape: int) -> Tensor:
        """Return float32 [L, *shape], standard normal."""
        drawn = torch.randn((self.count, *shape), generator=self.generator, device=self.generator.device)
        return drawn[self.rows]
