"""What TEMI's heads see of stored features: standardised values, or their principal components."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.device import widest_float
from sslpipe.metrics.pca import Features, leading_eigenvectors, oriented
from sslpipe.nets.inference import feature_chunks

CHUNK = 4096
"""Rows of features that are read at a time (own choice)."""
LEAST_DEVIATION = 1e-4
"""Share of the largest standard deviation of a feature below which a feature counts as constant: it is divided by the
largest one instead, so that rounding does not become noise (own choice)."""


@dataclass(frozen=True)
class Inputs:
    """The map (x - mean) / deviation of features x, times a basis of principal components."""

    mean: Tensor
    """[D]."""
    deviation: Tensor
    """[D], standard deviations."""
    basis: Tensor | None = None
    """[D, C]; None: the standardised features are not changed."""

    @property
    def dimension(self) -> int:
        """Number of dimensions that the heads see."""
        return len(self.mean) if self.basis is None else self.basis.shape[1]

    def of(self, rows: Tensor) -> Tensor:
        """Map features [B, D] of any type on the map's device."""
        standard = (rows.float() - self.mean) / self.deviation
        return standard if self.basis is None else standard @ self.basis


def fit_inputs(features: Features, components: int | None, device: torch.device) -> Inputs:
    """Return the map for features [N, D], with mean, deviation and components of all of them, on `device`.

    components: their number, at most D; they have a common scale, so that the mean square of all values is 1. None: no
    components.
    """
    wide = widest_float(device)
    count, dimension = features.shape
    total, squares = (torch.zeros(dimension, dtype=wide, device=device) for _ in range(2))
    for rows in feature_chunks(features, device, size=CHUNK):
        total += rows.to(wide).sum(dim=0)
    mean = total / count
    for rows in feature_chunks(features, device, size=CHUNK):
        squares += (rows.to(wide) - mean).square().sum(dim=0)
    deviation = (squares / count).sqrt()
    largest = deviation.max().clamp_min(1e-12)
    deviation = torch.where(deviation > LEAST_DEVIATION * largest, deviation, largest)
    standard = Inputs(mean.float(), deviation.float())
    if components is None:
        return standard
    correlation = torch.zeros(dimension, dimension, dtype=wide, device=device)
    for rows in feature_chunks(features, device, size=CHUNK):
        values = standard.of(rows)
        correlation += values.T @ values / count
    variances, vectors = leading_eigenvectors(correlation.cpu().double().numpy(), components)
    basis = oriented(vectors) / np.sqrt(max(variances.mean(), 1e-12))
    return Inputs(standard.mean, standard.deviation, torch.from_numpy(basis).float().to(device))
