"""UDA: consistency with sharpened answers, and labels that are released as training goes on."""

from math import exp
from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def uda(weak_logits: Tensor, strong_logits: Tensor, *, temperature: float, threshold: float) -> dict[str, Tensor]:
    """Consistency of strong views with sharpened weak ones (Xie et al. 2020, "UDA", eq. 1, with its
    "confidence-based masking" and "sharpening predictions").

    weak_logits: [B, C], taken as given (no gradient); strong_logits: [B, C], row i of both from image i. The target is
    softmax(weak / T); kept are images whose largest probability before sharpening exceeds `threshold`. Returns
    scalars. loss: cross-entropy summed over kept images and divided by B (less the targets' entropy it were the KL
    divergence, whose gradient is the same). confident: share of images kept, 0 to 1.
    """
    weak = weak_logits.detach().float()
    kept = (weak.softmax(dim=1).amax(dim=1) > threshold).float()
    target = (weak / temperature).softmax(dim=1)
    cross_entropy = F.cross_entropy(strong_logits.float(), target, reduction="none")
    return {"loss": (kept * cross_entropy).mean(), "confident": kept.mean()}


def signal_threshold(progress: float, *, classes: int, schedule: Literal["off", "linear", "log", "exp"]) -> float:
    """η of training-signal annealing (Xie et al. 2020, "UDA"): a(1 - 1/C) + 1/C, rising from 1/C to 1.

    progress: share of the training done, 0 to 1. a is progress (linear), 1 - exp(-5 progress) (log, released early;
    ends at a = 0.993) or exp(5 progress - 5) (exp, released late; begins at a = 0.007). off: 1, nothing is withheld.
    """
    withheld = {"off": 0.0, "linear": 1 - progress, "log": exp(-5 * progress), "exp": 1 - exp(5 * progress - 5)}
    return 1 - withheld[schedule] * (1 - 1 / classes)


def annealed_cross_entropy(
    logits: Tensor, label: Tensor, *, threshold: float, smoothing: float = 0.0
) -> dict[str, Tensor]:
    """Cross-entropy of the labelled images that are not yet learned (Xie et al. 2020, "training signal
    annealing").

    logits: [B, C]; label: int64 [B]. Masked are images whose label has a probability above `threshold`. Returns
    scalars: loss, the mean over the others (0 where there are none); released: their share of the batch, 0 to 1.
    """
    logits = logits.float()
    answer = logits.detach().softmax(dim=1).gather(1, label[:, None])[:, 0]
    released = (answer <= threshold).float()
    cross_entropy = F.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)
    return {"loss": (released * cross_entropy).sum() / released.sum().clamp(min=1), "released": released.mean()}
