"""Feature vectors scaled to norm 1, all at once or as they are used, which bounds the memory for many images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Features = Tensor | NDArray[Any]
RESIDENT = {"cpu": 1 << 28, "cuda": 1 << 34}
"""Device type → maximum size in bytes of float32 vectors that are all scaled at once (own choice). Of more, each tile
is scaled when it is used."""
CHECKED = 1 << 20
"""Values that are checked at a time."""

TINY = 1e-12
"""Below the norm of any float16 vector but 0."""


class UnitVectors:
    """The rows of features [N, D], float32 on a device, scaled to norm 1; a zero vector remains zero."""

    def __init__(self, features: Features, device: torch.device) -> None:
        """features: of any floating type; arrays may be memory-mapped.

        Raises ValueError if features are not finite or not [N, D].
        """
        if features.ndim != 2 or 0 in features.shape:
            raise ValueError(f"features: shape {tuple(features.shape)} found, expected [N, D]")
        self.device, self.shape = device, (int(features.shape[0]), int(features.shape[1]))
        self._features = features
        self.resident: Tensor | None = None
        """All rows, if they are few enough."""
        if 4 * self.shape[0] * self.shape[1] <= RESIDENT.get(device.type, 0):
            self.resident = unit_vectors(features, device)
        else:
            _check(features)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Tensor:
        """Return some of the rows."""
        return self.resident[rows] if self.resident is not None else _scaled(self._features[rows], self.device)

    def rows(self, index: Tensor) -> Tensor:
        """Return the rows with these indices, int64 [M], in any order."""
        return self.resident[index] if self.resident is not None else _scaled(self._some(index), self.device)

    def products(self, index: Tensor, vectors: Tensor) -> Tensor:
        """Return the inner products [B, M] of vectors [B, D] with rows [B, M] of their own."""
        shape = (*index.shape, self.shape[1])
        if self.resident is not None or self._some(index[:0, 0]).dtype not in (torch.float16, np.float16):
            return torch.bmm(self.rows(index.flatten()).view(shape), vectors[:, :, None])[:, :, 0]
        # Squares of float16 neither overflow nor vanish in float32, so the products are scaled instead of the rows.
        near = torch.as_tensor(self._some(index.flatten())).to(self.device).float()
        norm = torch.linalg.vector_norm(near, dim=1).clamp_min(TINY).view(index.shape)
        product: Tensor = torch.bmm(near.view(shape), vectors[:, :, None])[:, :, 0] / norm
        return product

    def _some(self, index: Tensor) -> Features:
        """Return rows as they are."""
        where = index.to(self._features.device) if isinstance(self._features, Tensor) else index.cpu().numpy()
        return self._features[where]


def unit_vectors(features: Features, device: torch.device) -> Tensor:
    """Return a copy of features [N, D] on `device`, float32, scaled to norm 1; a zero vector remains zero.

    Raises ValueError if features are not finite or not [N, D].
    """
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features: shape {tuple(features.shape)} found, expected [N, D]")
    _check(features)
    return _scaled(features, device)


def _check(features: Features) -> None:
    """Raise ValueError if features are not finite."""
    count = max(1, CHECKED // features.shape[1])
    parts = (features[start : start + count] for start in range(0, len(features), count))
    bad = np.concatenate([_broken(part) for part in parts])
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(f"features: NaN or infinity in {int(bad.sum())} of {len(bad)} vectors, the first at {first}")


def _broken(features: Features) -> NDArray[np.bool_]:
    """Return which rows have values that are not finite, [N]."""
    if isinstance(features, Tensor):
        return (~features.detach().isfinite().all(dim=1)).cpu().numpy()
    return np.logical_not(np.isfinite(features).all(axis=1))


def _scaled(features: Features, device: torch.device) -> Tensor:
    """Return a copy of features [N, D] on `device`, float32, scaled to norm 1."""
    if isinstance(features, Tensor):
        unit = features.detach().to(device, torch.float32, copy=True)
    else:
        unit = torch.tensor(features, dtype=torch.float32, device=device)
    # Divided by the largest entry first, because the squares of very large or small entries overflow float32.
    largest = torch.linalg.vector_norm(unit, torch.inf, dim=1, keepdim=True)
    unit /= largest.where(largest > 0, 1)
    unit /= torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_min(1)
    return unit
