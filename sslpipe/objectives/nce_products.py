"""Products of features with rows of a memory bank, and the constant Z (Wu et al. 2018, arXiv:1805.01978)."""

import torch
from torch import Tensor

from sslpipe.objectives._float32 import in_float32

WHOLE = 24
"""Rows of the memory for each noise row up to which all products are computed (own choice: with D of 64 and 128, B of
32 to 256 and M = 4,096 the two ways take equal CPU time at 100,000 to 250,000 rows, 24 to 60 for each noise row)."""


@in_float32
def cosines(feature: Tensor, index: Tensor, noise: Tensor, memory: Tensor) -> Tensor:
    """Return the products of features with their own row and their noise rows, [B, 1 + M]; shapes are as in `nce.nce`.

    Both ways take time in proportion to B: those of all N rows by one matrix product, and of them the chosen ones; or
    the chosen rows, B (1 + M) of them, copied from the memory. Up to N = WHOLE · M the first is faster and needs less
    memory: with 4,096 noise rows, some 100,000 images.
    """
    columns = torch.cat([index[:, None], noise], dim=1)
    if len(memory) <= WHOLE * noise.shape[1]:
        return (feature @ memory.T).gather(1, columns)
    return torch.einsum("bd,bmd->bm", feature, memory[columns])


@in_float32
def estimate_normalizer(cosine: Tensor, *, images: int, temperature: float) -> Tensor:
    """Return the Monte Carlo estimate of Z = N E[exp(v·f / τ)] (Wu et al., below eq. 7), a scalar.

    cosine: [B, M], products of features with the noise rows, of N = `images` rows of the memory.
    """
    return images * (cosine / temperature).exp().mean()
