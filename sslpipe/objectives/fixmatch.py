"""FixMatch (arXiv:2001.07685): a confident prediction for a weak view is the label of the strong view."""

from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives.masked import NormalizeBy, masked_mean


def fixmatch(
    weak_logits: Tensor,
    strong_logits: Tensor,
    *,
    threshold: float,
    normalize_by: NormalizeBy = "batch",
) -> dict[str, Tensor]:
    """Return the cross-entropy of strong views with hard pseudo-labels (FixMatch, eq. 4).

    weak_logits: [B, C], without gradient; strong_logits: [B, C], row i of both from image i. Confident images are those
    whose largest weak probability is at least `threshold`. Returns scalars: loss, the sum over confident images divided
    by B, or with normalize_by="confident" by their number (L_u in "Boosting SSL", arXiv:2012.00504, section 3.2; 0
    without confident images), and confident, their share, 0 to 1.
    """
    probability, label = weak_logits.detach().float().softmax(dim=1).max(dim=1)
    kept = (probability >= threshold).float()
    cross_entropy = F.cross_entropy(strong_logits.float(), label, reduction="none")
    return {"loss": masked_mean(cross_entropy, kept, normalize_by=normalize_by), "confident": kept.mean()}
