"""Instance discrimination with a memory bank (Wu et al. 2018, arXiv:1805.01978)."""

from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives._float32 import in_float32
from sslpipe.objectives.nce_products import cosines


@in_float32
def instance_softmax(
    feature: Tensor, index: Tensor, memory: Tensor, noise: Tensor | None = None, *, temperature: float
) -> Tensor:
    """Return the cross-entropy of the non-parametric softmax over images (Wu et al., eq. 2 and 3), a scalar.

    feature: [B, D] and memory: [N, D], unit rows; index: [B] int64, each image's row of the memory; noise: [M] int64,
    random rows used as negatives, None for all N rows. With equal memory rows the loss is ln N, or ln(M + 1).
    Feature Decoupling (Feng et al. 2019, section 3.4) estimates this softmax by `nce`, with rows of its own for each
    image.
    """
    if noise is None:
        return F.cross_entropy(feature @ memory.T / temperature, index)
    own = (feature * memory[index]).sum(dim=1, keepdim=True)
    logits = torch.cat([own, feature @ memory[noise].T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros_like(index))


@in_float32
def nce(
    feature: Tensor,
    index: Tensor,
    noise: Tensor,
    memory: Tensor,
    *,
    temperature: float,
    normalizer: Tensor,
    cosine: Tensor | None = None,
) -> Tensor:
    """Return the noise-contrastive estimate of the instance softmax (Wu et al., eq. 4 to 7), a scalar.

    feature: [B, D] and memory: [N, D], unit rows; index: [B] int64; noise: [B, M] int64, rows of the memory drawn from
    the noise distribution P_n = 1/N; normalizer: scalar, the constant Z of eq. 4 (see `estimate_normalizer`); cosine:
    what `cosines` returns of the first four, if it is known. J = -log h(i, v) - sum over the M noise rows of
    log(1 - h(j, v)), with h = P / (P + M P_n), averaged over the batch.
    """
    products = cosines(feature, index, noise, memory) if cosine is None else cosine
    # h = P / (P + M/N) is the logistic function of log P - log(M/N).
    log_odds = products / temperature - normalizer.log() - log(noise.shape[1] / len(memory))
    return -(F.logsigmoid(log_odds[:, 0]) + F.logsigmoid(-log_odds[:, 1:]).sum(dim=1)).mean()


def proximal(feature: Tensor, previous: Tensor) -> Tensor:
    """Return the mean squared distance to the features of the previous epoch (Wu et al., eq. 8), a scalar.

    feature, previous: [B, D].
    """
    return (feature - previous).square().sum(dim=1).mean()
