"""The 1,797 handwritten digits in scikit-learn (Alpaydin and Kaynak 1998, UCI): 8 x 8 pixels, grey, no test part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from sslpipe.decoding.entries import Entry


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.digits`, which has no settings."""


class Source:
    """The digits, with their 17 grey levels scaled to 0 to 255."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        digits = load_digits()
        self.classes = tuple(str(name) for name in digits.target_names)
        self.entries = [Entry(f"digits:{i}", int(label)) for i, label in enumerate(digits.target)]
        self.notes: Sequence[str] = ()
        self.ignored: Mapping[str, int] = {}
        self.unreadable: Mapping[str, str] = {}
        self._images = np.rint(digits.images * (255 / 16)).astype(np.uint8)

    def load(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`, [8, 8]."""
        image: NDArray[np.uint8] = self._images[index]
        return image
