"""FixMatch: what the model is sure of on a weak view is the label of the strong one."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def fixmatch(
    weak_logits: Tensor,
    strong_logits: Tensor,
    *,
    threshold: float,
    normalize_by: Literal["batch", "confident"] = "batch",
) -> dict[str, Tensor]:
    """Cross-entropy of strong views on hard pseudo-labels (Sohn et al. 2020, eq. 4).

    weak_logits: [B, C], taken as given (no gradient); strong_logits: [B, C], row i of both from image i. Kept are
    images whose largest weak probability is at least `threshold`. Returns scalars. loss: summed over kept images and
    divided by B, or with normalize_by="confident" by how many are kept (L_u in section 3.2 of Lerner et al. 2020, see
    `alternation`); 0 where none is. confident: share of images kept, 0 to 1.
    """
    probability, label = weak_logits.detach().float().softmax(dim=1).max(dim=1)
    kept = (probability >= threshold).float()
    total = (kept * F.cross_entropy(strong_logits.float(), label, reduction="none")).sum()
    divisor = kept.sum().clamp(min=1) if normalize_by == "confident" else len(kept)
    return {"loss": total / divisor, "confident": kept.mean()}
