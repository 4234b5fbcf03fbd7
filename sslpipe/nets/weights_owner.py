"""Whose weights a file has: architectures that take the same tensors and compute something else are told apart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.nets.architectures import twins
from sslpipe.nets.timm_backbone import TimmBackbone, timm_config
from sslpipe.nets.weights_files import FileContent, read_config
from sslpipe.nets.weights_packages import known_owner

SAME = 1e-4
"""Largest difference of unit features that are the same up to rounding (own choice)."""


def owner_of(path: Path, content: FileContent) -> tuple[str, str] | None:
    """Return the architecture that weights belong to and who says so; None if nobody does.

    The file itself is asked first (the key `architecture` or `arch` of its metadata or top level, as in the files of
    timm and of torch's examples), then a config.json beside it, as timm's files on the hub have, then the digests of
    the packages' files.
    """
    import timm

    config = read_config(path)
    said = [
        *((content.about.get(key), "its own metadata") for key in ("architecture", "arch")),
        (_with_tag(config), "config.json beside it"),
    ]
    for name, who in said:
        if isinstance(name, str) and timm.is_model(name.partition(".")[0]):
            return name, who
    known = known_owner(path)
    return (known, "its digest") if known else None


def check_owner(path: Path, content: FileContent, architecture: str) -> bool:
    """Return whether a file says that its weights are the architecture's; raises UserError if they are another's.

    Weights of the same architecture that expect images normalised in another way are another's too.
    """
    if (owner := owner_of(path, content)) is None:
        return False
    name, who = owner
    message = (
        f"{path}: weights of {name} found, according to {who}, expected those of {architecture}; set "
        f"network.architecture: {name}"
    )
    if name.partition(".")[0] != architecture.partition(".")[0]:
        raise UserError(message)
    expected, found = timm_config(architecture), read_config(path).get("pretrained_cfg", {})
    if who.startswith("config") and isinstance(found, Mapping):
        for key in ("mean", "std"):
            if key in found and tuple(found[key]) != tuple(getattr(expected, key)):
                values, wanted = list(found[key]), list(getattr(expected, key))
                raise UserError(f"{message} (images with the {key} {values} found, expected {wanted})")
    return True


def name_twins(path: Path, backbone: TimmBackbone, weights: Mapping[str, Tensor], side: int) -> None:
    """Print a line that names architectures that take the same weights and give other features, if there are any.

    Nothing else tells them apart: efficientnet_lite0 takes the weights of tf_efficientnet_lite0 and gives features
    with a cosine of about 0.85 to the right ones. Twins that compute the same from images normalised in the same way
    are not named. side: of the images, pixels.
    """
    own = backbone.architecture
    config = timm_config(own)
    others = [name for name in twins(own.partition(".")[0]) if _differs(name, backbone, weights, side, config)]
    if others:
        names = " or ".join(others)
        info(
            f"{path}: the same weights fit timm's {names}, which gives other features than {own}; if they are its "
            f'weights, set network.architecture to it; if not, a file config.json beside them, {{"architecture": '
            f'"{own}"}}, says so'
        )


def _with_tag(config: Mapping[str, Any]) -> str | None:
    """Return the architecture that a config.json of timm names, with the tag of its weights if that is known."""
    name, cfg = config.get("architecture"), config.get("pretrained_cfg")
    if not isinstance(name, str) or "." in name:
        return name if isinstance(name, str) else None
    tag = cfg.get("tag") if isinstance(cfg, Mapping) else None
    return f"{name}.{tag}" if tag else name


@torch.no_grad()
def _differs(name: str, backbone: TimmBackbone, weights: Mapping[str, Tensor], side: int, config: Any) -> bool:
    """Return whether an architecture with the same tensors computes other features, or normalises images otherwise."""
    other = timm_config(name)
    if tuple(other.mean) != tuple(config.mean) or tuple(other.std) != tuple(config.std):
        return True
    image = torch.rand(1, len(config.mean), side, side, generator=torch.Generator().manual_seed(0))
    twin = TimmBackbone(architecture=name, channels=len(config.mean), side=side).eval()
    twin.model.load_state_dict(dict(weights))
    first, second = (F.normalize(each(image), dim=1) for each in (backbone.eval(), twin))
    return first.shape != second.shape or not float((first - second).abs().max()) <= SAME
