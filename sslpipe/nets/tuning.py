"""Which weights of a pretrained backbone are trained, and at which learning rates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Positive, Range
from sslpipe.nets.layers import Backbone
from sslpipe.nets.lora import add_updates
from sslpipe.nets.network import BackboneSettings, Network

Statistics = Literal["batch", "start"]
KEPT = "batch norms keep the statistics of the start"
OTHERS = "(backbone.train: all; last_blocks, lora or none train fewer)"
RANK = 8
"""Rank of the updates if none is given (own choice)."""
TAKEN_BY = {
    "blocks": ("last_blocks",),
    "rank": ("lora",),
    "alpha": ("lora",),
    "layer_decay": ("all", "last_blocks", "lora"),
    "statistics": ("all", "last_blocks"),
}
"""Setting → the values of `train` that it belongs to."""


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """Which weights of the backbone are trained, and at which learning rates; the head is trained in any case."""

    train: Literal["all", "last_blocks", "lora", "none"] = "all"
    """all: every weight. last_blocks: those of the last `blocks` and of what follows them. lora: low-rank updates of
    linear layers and 1×1 convolutions (LoRA, arXiv:2106.09685), which the model to keep has added to its weights. none:
    no weight. Parts without a trained weight take no memory for gradients, and their batch norms keep the statistics
    that they have."""
    blocks: Count | None = None
    """Number of blocks at the end that last_blocks trains. More: a closer fit to the images, slower, and overfitting
    sooner with few labels."""
    rank: Count | None = None
    """r of lora, the rank of the updates; null: 8. Larger: more weights are trained, so a closer fit."""
    alpha: Positive | None = None
    """α of lora, whose updates are multiplied by α / r; null: r, as in LoRA's paper for the first r tried. Larger:
    larger steps of the updates, much as with a higher learning rate."""
    layer_decay: Annotated[float, Range(above=0, high=1)] | None = None
    """Factor on the learning rate from a block to the one before it: the head has 1, the last block this one, the block
    before it its square (BEiT, arXiv:2106.08254, and MAE, arXiv:2111.06377: 0.65 to 0.75 for vision transformers);
    null: 1. Larger: the first blocks move further from their pretrained weights."""
    statistics: Statistics | None = None
    """What batch norms with trained weights normalise by: the images of the batch, which their running statistics then
    follow, or the running statistics of the start, which stay. With few steps or small batches the latter keeps a
    published network's features. null: start for a published network, since batches distort its features at once
    (docs/few-labels.md), batch for others; lora and none always keep them."""

    def __post_init__(self) -> None:
        for key, values in TAKEN_BY.items():
            value = getattr(self, key)
            if value is not None and self.train not in values:
                raise UserError(f"{key}: {value} found, expected null with train: {self.train}")
        if self.train == "last_blocks" and self.blocks is None:
            raise UserError("blocks: null found, expected a whole number at least 1 with train: last_blocks")


def learning_rates(backbone: Backbone, settings: TuningSettings) -> Mapping[str, float]:
    """Return the factor on the learning rate of each weight of a backbone, by its name; of those it has not it is 1."""
    if settings.layer_decay is None:
        return {}
    return {name: settings.layer_decay**distance for name, distance in backbone.distances().items()}


def tune(network: Network, settings: TuningSettings) -> str:
    """Freeze all weights of a network's backbone that are not trained, and add low-rank updates if set.

    Returns how many weights are trained, in words; empty if those are all of a network that is not timm's.
    Raises UserError for more blocks than there are, and for updates of a network without a layer that can have one.
    """
    total, backbone = _millions(network.parameters()), network.backbone
    kept = ""
    if settings.train in TAKEN_BY["statistics"]:
        kept = f"; {KEPT} (backbone.statistics)" if keep_statistics(network, settings.statistics) else ""
    if settings.train == "all":
        return f"trains all {total} million weights {OTHERS}{kept}" if network.settings.name == "timm" else ""
    backbone.requires_grad_(False)
    what = "the head alone"
    if settings.train == "last_blocks":
        what = _train_blocks(backbone, settings.blocks or 1, network.settings)
    elif settings.train == "lora":
        what = _add_updates(backbone, settings, network.settings)
    network.frozen += tuple(_frozen(backbone))
    network.train(network.training)
    trained = _millions(weight for weight in network.parameters() if weight.requires_grad)
    return f"trains {trained} of {total} million weights, {what} (backbone.train: {settings.train}){kept}"


def keep_statistics(network: Network, statistics: Statistics | None) -> bool:
    """Let the backbone's batch norms keep their running statistics, and normalise by them, if so set.

    statistics: see TuningSettings. Returns whether they do; not where there are none.
    """
    norms = tuple(layer for layer in network.backbone.modules() if isinstance(layer, nn.BatchNorm2d))
    if not norms or (statistics or ("batch" if network.input is None else "start")) == "batch":
        return False
    network.frozen += norms
    network.train(network.training)
    return True


def _train_blocks(backbone: Backbone, blocks: int, of: BackboneSettings) -> str:
    """Let the last blocks be trained; return which ones those are, in words."""
    if blocks > backbone.block_count:
        raise UserError(
            f"backbone.blocks: {blocks} found, expected at most {backbone.block_count}, the number of blocks of "
            f"{of.architecture or of.name}"
        )
    for name, distance in backbone.distances().items():
        backbone.get_parameter(name).requires_grad_(distance <= blocks)
    return f"the head and the last {blocks} of {backbone.block_count} blocks"


def _add_updates(backbone: Backbone, settings: TuningSettings, of: BackboneSettings) -> str:
    """Add low-rank updates, which are trained; return how many and of which rank, in words."""
    rank = settings.rank or RANK
    layers = add_updates(backbone, rank=rank, alpha=settings.alpha or rank)
    if not layers:
        raise UserError(
            f"backbone.train: lora found, but {of.architecture or of.name} has neither linear layers nor 1×1 "
            "convolutions, expected all, last_blocks or none"
        )
    return f"the head and updates of rank {rank} in {layers} layers"


def _millions(weights: Iterable[Tensor]) -> str:
    """Return the number of weights, in millions, with two digits or more."""
    number = sum(weight.numel() for weight in weights) / 1e6
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def _frozen(module: nn.Module) -> list[nn.Module]:
    """Return the largest parts with weights or statistics of which no weight is trained."""
    if any(weight.requires_grad for weight in module.parameters()):
        return [part for child in module.children() for part in _frozen(child)]
    has_state = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
    return [module] if has_state else []
