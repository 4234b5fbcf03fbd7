"""Settings that were renamed or removed, for one line that names the new key."""

from collections.abc import Collection
from fnmatch import fnmatchcase

from sslpipe.io.errors import UserError, nearest

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
    "pretrain.watch": "pretrain reads no labels",
    "*.methods.*.base": "the code deps of dvc.yaml are folders; alternation's base is semisup.alternation.base",
    "*.methods.*.objective": "the code deps of dvc.yaml are folders",
}
"""Pattern of a dotted old key → why nothing takes its place (0.2.0)."""
MOVED = {
    "cluster": (
        "scan",
        (
            "merge_to",
            "heads",
            "select_head_by",
            "neighbors",
            "pair_with_itself",
            "entropy_weight",
            "held_out_entropy_weight",
            "head_epochs",
            "head_inputs",
            "backbone_rate",
            "views",
            "batch_statistics",
            "fit",
        ),
    ),
    "self_label": (
        "confident",
        (
            "threshold",
            "balance",
            "targets",
            "target_statistics",
            "final_statistics",
            "ema_decay",
            "patience",
            "min_delta",
            "views",
            "fit",
        ),
    ),
}
"""Block of a stage → the method whose block now has these keys (0.4.0)."""
REMOVED_VALUES = {
    ("*.name", "torchvision"): "published networks come from timm: name: timm, architecture: resnet50.tv_in1k",
}
"""Pattern of a dotted key and its old value → what takes its place (0.2.0)."""


def unknown_key(where: str, key: str, known: Collection[str]) -> UserError:
    """The error for an unknown key: what became of an old one, else the nearest known one.

    where: the dotted key of its block. known: the keys of that block.
    """
    hint = nearest(key, known)
    new, values = RENAMED.get(key, ("", ""))
    if new in known:
        hint = f"; renamed to {new} in 0.2.0" + (f" ({values})" if values else "")
    method, moved = MOVED.get(where, ("", ()))
    if (latest := new if new in moved else key) in moved:
        hint = f"; moved to {where}.{method}.{latest} in 0.4.0"
    for pattern, reason in REMOVED.items():
        if fnmatchcase(f"{where}.{key}", pattern):
            hint = f"; removed in 0.2.0, delete it: {reason}"
    return UserError(f"{where}.{key}: unknown key{hint}")


def value_hint(where: str, value: object, known: Collection[object]) -> str:
    """A hint for a value that is none of the choices: what takes the place of an old one, else the nearest choice."""
    for (pattern, old), new in REMOVED_VALUES.items():
        if value == old and fnmatchcase(where, pattern):
            return f"; removed in 0.2.0: {new}"
    return nearest(str(value), map(str, known))
