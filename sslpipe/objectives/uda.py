"""UDA (arXiv:1904.12848): consistency with sharpened predictions, and training-signal annealing of the labels."""

from math import exp
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives.masked import NormalizeBy, masked_mean


def uda(
    weak_logits: Tensor,
    strong_logits: Tensor,
    *,
    temperature: float,
    threshold: float,
    normalize_by: NormalizeBy = "batch",
) -> dict[str, Tensor]:
    """Return the consistency loss of strong views with sharpened predictions for weak views (UDA, eq. 1).

    weak_logits: [B, C], without gradient; strong_logits: [B, C], row i of both from image i. The target is
    softmax(weak / T) ("sharpening predictions"). Confident images are those whose largest probability before sharpening
    exceeds `threshold` ("confidence-based masking"). Returns scalars: loss, the cross-entropy summed over confident
    images (it has the gradient of the KL divergence) and divided by B, or with normalize_by="confident" by their number
    (public code of "Boosting SSL", arXiv:2012.00504; 0 without confident images), and confident, their share, 0 to 1.
    """
    weak = weak_logits.detach().float()
    kept = (weak.softmax(dim=1).amax(dim=1) > threshold).float()
    target = (weak / temperature).softmax(dim=1)
    cross_entropy = F.cross_entropy(strong_logits.float(), target, reduction="none")
    return {"loss": masked_mean(cross_entropy, kept, normalize_by=normalize_by), "confident": kept.mean()}


def signal_threshold(progress: float, *, classes: int, schedule: Literal["off", "linear", "log", "exp"]) -> float:
    """Return the threshold η of UDA's training-signal annealing, a(1 - 1/C) + 1/C, which increases from 1/C to 1.

    progress: share of the training that is done, 0 to 1. a is progress (linear), 1 - exp(-5 progress) (log: most labels
    are released early; the last a is 0.993) or exp(5 progress - 5) (exp: late; the first a is 0.007). off: η is 1, no
    label is withheld.
    """
    withheld = {"off": 0.0, "linear": 1 - progress, "log": exp(-5 * progress), "exp": 1 - exp(5 * progress - 5)}
    return 1 - withheld[schedule] * (1 - 1 / classes)


def annealed_cross_entropy(
    logits: Tensor, label: Tensor, *, threshold: float, smoothing: float = 0.0
) -> dict[str, Tensor]:
    """Return the cross-entropy of labelled images that are not learned yet (UDA, training-signal annealing).

    logits: [B, C]; label: int64 [B]. Images whose label has a probability above `threshold` are withheld. Returns
    scalars: loss, the mean over the other images (0 without such images), and released, their share, 0 to 1.
    """
    logits = logits.float()
    probability = logits.detach().softmax(dim=1).gather(1, label[:, None])[:, 0]
    released = (probability <= threshold).float()
    cross_entropy = F.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)
    return {"loss": masked_mean(cross_entropy, released, normalize_by="confident"), "released": released.mean()}
