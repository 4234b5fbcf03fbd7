"""Reduced unit features of all images, and a logistic regression on those of the labelled ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.methods.semisup._answers import TINY, product_of
from sslpipe.methods.semisup._logistic import left_out_logits, left_out_loss, regress, solvable
from sslpipe.metrics.pca import fit_pca, unit_chunks, unit_rows

DEFAULT_STRENGTH = 10.0
"""Strength C of the probe without cross-validation (that of the measurements behind `_answers.PRODUCT_FROM`)."""
ROWS = 4096
"""Images whose features are read at a time."""
Folds = Sequence[tuple[Tensor, Tensor]]
"""What `stratified_folds` returns."""


def principal_basis(features: NDArray[Any], components: int) -> NDArray[np.float32] | None:
    """Return orthonormal columns [D, d ≤ components] that span the mean and the principal components of unit features.

    features: [N, D], read once, in chunks. The mean is kept, since a cosine is of vectors that are not centred.
    Returns None for features that have no more than `components` dimensions.
    """
    if features.shape[1] <= components:
        return None
    pca = fit_pca(features, components - 1)
    rest = pca.mean - pca.basis @ (pca.basis.T @ pca.mean)
    norm = np.linalg.norm(rest)
    if norm < 1e-4:  # the mean lies within the components, or is 0
        return pca.basis
    return np.column_stack([rest / norm, pca.basis]).astype(np.float32)


def reduced_rows(rows: NDArray[np.float32], basis: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return unit rows [M, D] mapped by a basis [D, d] and scaled to norm 1 again; as they are without a basis."""
    return rows if basis is None else unit_rows(rows @ basis)


def reduced_features(features: NDArray[Any], basis: NDArray[np.float32] | None) -> NDArray[np.float16]:
    """Return the reduced unit features [N, d] of features [N, D], which are read in chunks."""
    result = np.empty((len(features), features.shape[1] if basis is None else basis.shape[1]), dtype=np.float16)
    for start, unit in unit_chunks(features):
        result[start : start + len(unit)] = reduced_rows(unit, basis)
    return result


@dataclass(frozen=True)
class Probe:
    """A multinomial logistic regression on reduced unit features."""

    weight: Tensor
    """float64 [C, d], with many labels float32."""
    bias: Tensor
    """float64 [C], with many labels float32."""
    strength: float
    """Weight of the sum of the cross-entropies against the penalty |W|²/2 (scikit-learn's C)."""

    def probabilities(self, unit: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities [M, C] for reduced unit features [M, d]."""
        result = np.empty((len(unit), len(self.weight)), dtype=np.float32)
        weight, bias = self.weight.float(), self.bias.float()
        for start in range(0, len(unit), ROWS):
            rows = torch.from_numpy(unit[start : start + ROWS].astype(np.float32))
            result[start : start + len(rows)] = (rows @ weight.T + bias).softmax(dim=1).numpy()
        return result


def fit_probe(unit: NDArray[np.float32], label: Tensor, strength: float, iterations: int) -> Probe:
    """Return the probe of labelled images; unit: [L, d], their reduced unit features. label: [L]."""
    penalty = 1 / (strength * len(label))
    return Probe(
        *regress(solvable(torch.from_numpy(unit), label), label, penalty, iterations, standardize=False),
        strength=strength,
    )


def left_out_probes(
    unit: NDArray[np.float32], label: Tensor, strengths: Sequence[float], folds: Folds, iterations: int
) -> dict[float, NDArray[np.float32]]:
    """Return strength → probabilities [L, C] of each labelled image by the probe of the other folds' labels.

    In each fold the strengths are solved from the smallest to the largest, each from the solution before.
    """
    strength_of = {1 / (strength * len(label)): strength for strength in strengths}
    left_out = {strength: np.empty((len(label), int(label.max()) + 1), dtype=np.float32) for strength in strengths}
    known = solvable(torch.from_numpy(unit), label)
    found = left_out_logits(known, label, folds, strength_of, iterations, standardize=False)
    for inside, penalty, logits in found:
        left_out[strength_of[penalty]][inside.numpy()] = logits.softmax(dim=1).float().numpy()
    return left_out


def best_strength(
    left_out: Mapping[float, NDArray[np.float32]],
    label: Tensor,
    folds: Folds,
    propagated: NDArray[np.float32] | None = None,
) -> float:
    """Return the strength with the lowest cross-entropy on left-out labels; DEFAULT_STRENGTH if nothing is left out.

    left_out: of `left_out_probes`. propagated: [L, C], left-out probabilities by propagation, for the strength in a
    product with them, where a probe that is too sure would outvote them.
    """
    losses = {}
    for strength, probed in left_out.items():
        logits = np.log(np.maximum(probed, TINY)) if propagated is None else product_of(propagated, probed)
        losses[strength] = left_out_loss(torch.from_numpy(logits), label, folds)
    return min(losses, key=lambda strength: losses[strength], default=DEFAULT_STRENGTH)
