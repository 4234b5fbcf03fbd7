"""Settings that were renamed or removed, for one line that names the new key."""

from collections.abc import Collection

RENAMED = {
    "head": ("head_init", "drawn is now random, fitted is now logistic"),
    "projection": ("projection_init", "drawn is now random, kept is now pretrained"),
    "over": ("normalize_by", ""),
    "smoothing": ("propagation_alpha", ""),
    "decay": ("ema_decay", ""),
    "final_decay": ("final_ema_decay", ""),
    "momentum": ("ema_decay", ""),
    "head_by": ("select_head_by", ""),
    "rise": ("min_delta", ""),
    "crops": (
        "global_views",
        "large, small and small_crops are now global_views, local_views and local_crops beside it",
    ),
}
"""Old key → the new key of the same block, and what became of its values (0.2.0)."""
REMOVED = {
    "watch": "pretrain reads no labels",
    "base": "the code deps of dvc.yaml are folders; what alternation builds on is semisup.alternation.base",
    "objective": "the code deps of dvc.yaml are folders",
}
"""Old key → why nothing takes its place (0.2.0)."""


def renamed_hint(key: str, known: Collection[str]) -> str:
    """What to write instead of an unknown key, as the end of an error's line; "" for a key that never existed.

    known: the keys of its block.
    """
    new, values = RENAMED.get(key, ("", ""))
    if new in known:
        return f"; renamed to {new} in 0.2.0" + (f" ({values})" if values else "")
    if key in REMOVED:
        return f"; removed in 0.2.0, delete it: {REMOVED[key]}"
    return ""
