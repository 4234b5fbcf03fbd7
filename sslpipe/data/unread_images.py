"""Images of memory-mapped files that are read when they are indexed: of several splits, or a choice from one."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class UnreadImages(Protocol):
    """Images [N, C, H, W] that are not in memory: what an array of them has in common with the classes here."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, H, W."""
        ...

    @property
    def nbytes(self) -> int:
        """Size of all images."""
        ...

    @property
    def is_in_order(self) -> bool:
        """Whether the images lie in their files one after the other, so that a pass over them reads large blocks."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images with these indices [L], in this order, uint8 [L, C, H, W] in memory."""
        ...


class StoredImages(Protocol):
    """The images [N, C, H, W] of a split, as an array or `EncodedImages`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, H, W."""
        ...

    @property
    def nbytes(self) -> int:
        """Size of all images."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> NDArray[np.uint8]:
        """Return the image with a number, or those with these indices or of a slice."""
        ...


class JoinedImages:
    """The images of several splits, one after the other."""

    is_in_order = True

    def __init__(self, parts: Sequence[StoredImages]) -> None:
        """parts: [N, C, H, W] each."""
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *parts[0].shape[1:])
        self.nbytes = sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images with these indices [L], in this order."""
        found = np.empty((len(index), *self.shape[1:]), np.uint8)
        for start, part in zip(self._starts.tolist(), self._parts, strict=False):
            own = (index >= start) & (index < start + len(part))
            if own.any():
                found[own] = part[index[own] - start]
        return found


class ChosenImages:
    """Some of the images of a split."""

    is_in_order = False

    def __init__(self, images: StoredImages, index: NDArray[np.int64]) -> None:
        """images: [N, C, H, W]. index: [L], of those that are chosen."""
        self._images, self._index = images, index
        self.shape: tuple[int, ...] = (len(index), *images.shape[1:])
        self.nbytes = len(index) * int(np.prod(images.shape[1:]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images with these indices among the chosen ones [L], in this order."""
        found: NDArray[np.uint8] = self._images[self._index[index]]
        return found
