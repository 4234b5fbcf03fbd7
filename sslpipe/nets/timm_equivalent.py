"""The model of timm that computes the same function as a network, with its weights; for the networks that have one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sslpipe.io.errors import UserError
from sslpipe.nets.cosine_heads import CosineHead
from sslpipe.nets.decoupled import DecoupledHead
from sslpipe.nets.heads import ClusterHeads, Head, InstanceHead, LinearHead, ProjectionHead
from sslpipe.nets.joined import JoinedBackbone
from sslpipe.nets.merged import MergedHead
from sslpipe.nets.network import Network
from sslpipe.nets.preprocessing import is_view
from sslpipe.nets.resnet import ResNet
from sslpipe.nets.timm_backbone import TimmBackbone
from sslpipe.nets.unit_heads import ConsensusHead
from sslpipe.nets.vit import MLP_RATIO, VisionTransformer

OTHERWISE = "--format onnx and torch take every network"
LAYERS = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"}
"""Place in a residual branch → timm's name of the layer."""
VIT_NAMES = {
    "attention.0": "norm1",
    "attention.1.queries_keys_values": "attn.qkv",
    "attention.1.output": "attn.proj",
    "perceptron.0": "norm2",
    "perceptron.1": "mlp.fc1",
    "perceptron.3": "mlp.fc2",
}
"""Name within a block of a vision transformer → timm's name."""
VIT = "vit_tiny_patch16_224"
"""timm's architecture whose width, depth, heads and patches are replaced by arguments."""


@dataclass(frozen=True)
class Equivalent:
    """A model of timm, described by what `timm.create_model` needs."""

    architecture: str
    """timm's name, with the tag that the backbone was built with, if any."""
    weights: Mapping[str, Tensor]
    """The backbone's weights, with timm's names."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""


def seen_side(network: Network, size: int) -> int:
    """Return the side of what the backbone sees of images of `size` px, pixels."""
    if network.input is not None and not is_view(size, network.side):
        return network.input.crop
    return size if network.side is None else min(size, network.side)


def timm_equivalent(network: Network, size: int) -> Equivalent:
    """Return timm's equivalent of a network's backbone for images of `size` px.

    Raises UserError, which says which networks have one, for a backbone that has none.
    """
    backbone, settings = network.backbone, network.settings
    if isinstance(backbone, TimmBackbone):
        return Equivalent(backbone.architecture, backbone.model.state_dict(), backbone.options)
    if isinstance(backbone, ResNet) and settings.name.startswith("resnet") and settings.stem == "imagenet":
        return Equivalent(settings.name, _resnet_weights(backbone))
    if isinstance(backbone, VisionTransformer):
        return _vit(backbone, seen_side(network, size))
    if isinstance(backbone, JoinedBackbone):
        found = f"{settings.architecture} with unit_features, whose features are normalised"
    elif isinstance(backbone, ResNet) and settings.name.startswith("resnet"):
        found = f"{settings.name} with the stem {settings.stem}"
    else:
        found = settings.name
    raise UserError(
        f"--format: timm found, which has no network like {found}; it has single networks of timm, resnet18, 34 and 50 "
        f"with the stem imagenet, and vits; {OTHERWISE}"
    )


def _resnet_weights(network: ResNet) -> dict[str, Tensor]:
    """Return the weights of a ResNet with the stem imagenet, with timm's names."""
    names: dict[str, str] = {"stem.0": "conv1", "stem.1": "bn1"}
    group, place = 0, 0
    for number, block in enumerate(network.blocks):
        # The first block of every group after the first halves the image; group 1 begins with block 0.
        starts = number == 0 or any(layer.stride == (2, 2) for layer in block.modules() if isinstance(layer, nn.Conv2d))
        group, place = (group + 1, 0) if starts else (group, place + 1)
        ours, theirs = f"blocks.{number}", f"layer{group}.{place}"
        names |= {f"{ours}.residual.{i}": f"{theirs}.{name}" for i, name in LAYERS.items()}
        names |= {f"{ours}.shortcut.{i}": f"{theirs}.downsample.{i}" for i in (0, 1)}
    return {_renamed(name, names): tensor for name, tensor in network.state_dict().items()}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    layer, _, last = name.rpartition(".")
    return f"{names[layer]}.{last}"


def _vit(network: VisionTransformer, side: int) -> Equivalent:
    """Return timm's equivalent of a vision transformer: the fixed position embedding becomes a weight."""
    state = network.state_dict()
    grid = side // network.patch
    positions = network.positions(grid, grid, network.token.device)
    weights = {
        "cls_token": network.token.detach().view(1, 1, -1),
        "pos_embed": torch.cat([torch.zeros_like(positions[:1]), positions])[None],  # the class token has none
        "patch_embed.proj.weight": state["patches.weight"],
        "patch_embed.proj.bias": state["patches.bias"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            weights[f"blocks.{number}.{_renamed(rest, VIT_NAMES)}"] = tensor
    block: Any = network.blocks[0]
    arguments = {
        "img_size": side,
        "patch_size": network.patch,
        "embed_dim": network.dimension,
        "depth": len(network.blocks),
        "num_heads": block.attention[1].heads,
        "mlp_ratio": MLP_RATIO,
    }
    return Equivalent(VIT, weights, arguments)


@dataclass(frozen=True)
class LinearClassifier:
    """A linear map of features to logits."""

    weight: Tensor
    """[K, D]"""
    bias: Tensor
    """[K]"""
    shifted: bool = False
    """Whether the head's logits are log-probabilities, which differ from these by the same number for all outputs of an
    image, so that the probabilities are the same."""


def linear_classifier(head: Head) -> LinearClassifier | None:
    """Return the linear map whose probabilities are those of a head; None for a head of features.

    Raises UserError for a head that is not linear.
    """
    if isinstance(head, ProjectionHead | DecoupledHead | nn.Identity):
        return None
    if isinstance(head, LinearHead):
        return LinearClassifier(head.weight.detach(), head.bias.detach())
    if isinstance(head, InstanceHead):
        return LinearClassifier(head.classifier.weight.detach(), head.classifier.bias.detach())
    if isinstance(head, ClusterHeads) and head.settings.heads == 1:
        return LinearClassifier(head.linear.weight.detach(), head.linear.bias.detach())
    if isinstance(head, ConsensusHead) and head.settings.heads == 1 and not head.settings.unit_features:
        return LinearClassifier(head.linear.weight.detach(), head.linear.bias.detach(), shifted=True)
    if (
        isinstance(head, MergedHead)
        and isinstance(head.linear, nn.Linear)
        and head.groups == len(head.settings.groups)  # each group is one output
    ):
        order = sorted(range(head.groups), key=lambda output: head.settings.groups[output])
        return LinearClassifier(head.linear.weight.detach()[order], head.linear.bias.detach()[order], shifted=True)
    kind: Any = head.settings
    raise UserError(
        f"--format: timm found, whose classifiers are one linear layer; the model's head ({kind.kind}: "
        f"{_why_not(head)}) has no equal one; {OTHERWISE}"
    )


def _why_not(head: Head) -> str:
    """Return in words why no linear map gives the head's probabilities."""
    if isinstance(head, ConsensusHead):
        several = head.settings.heads > 1
        return f"mean probabilities of {head.settings.heads} layers" if several else "it normalises the features"
    if isinstance(head, MergedHead):
        return "sums of probabilities"
    if isinstance(head, ClusterHeads):
        return f"{head.settings.heads} heads"
    if isinstance(head, CosineHead):
        return "it has a hidden layer"
    return "it normalises the features"
