"""Mean and standard deviation of the pixels of images that are added one chunk after the other."""

from math import sqrt

import numpy as np
from numpy.typing import NDArray


class PixelStatistics:
    """Exact mean and standard deviation of each channel, from integer sums."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum = [0] * channels
        self._squares = [0] * channels

    def add(self, images: NDArray[np.uint8]) -> None:
        """Add the pixels of images [n, C, H, W]."""
        for channel, pixels in enumerate(images.swapaxes(0, 1)):
            count = np.bincount(pixels.ravel(), minlength=256)
            values = np.arange(256)
            self._sum[channel] += int(count @ values)
            self._squares[channel] += int(count @ values**2)
        self._count += images[:, 0].size

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and the standard deviation of each channel, in [0, 1]; a constant channel has deviation 1."""
        n = self._count
        mean = tuple(total / (255 * n) for total in self._sum)
        spread = [n * squares - total**2 for total, squares in zip(self._sum, self._squares, strict=True)]
        return mean, tuple(sqrt(s) / (255 * n) if s else 1.0 for s in spread)
