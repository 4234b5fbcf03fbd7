"""Heads of a network, from the backbone's features to logits or embeddings, and their settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.settings import Count, Positive
from sslpipe.nets.cosine_heads import CosineHead, CosineSettings
from sslpipe.nets.decoupled import DecoupledHead, DecoupledSettings
from sslpipe.nets.merged import MergedHead, MergedSettings
from sslpipe.nets.propagation_head import PropagationHead, PropagationSettings
from sslpipe.nets.unit_heads import CentroidHead, CentroidSettings, ConsensusHead, ConsensusSettings, stacked

Activation = Literal["relu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """Settings of a projection head; the defaults are SCAN's (arXiv:2005.12320): 512 → 512 → ReLU → 128."""

    kind: Literal["projection"] = "projection"
    """The kind of head."""
    hidden: Count = 512
    """Width of the hidden layers. Larger: more capacity, slower, and more memory."""
    outputs: Count = 128
    """Dimension of the embedding. Larger: room for more differences between images, slower."""
    depth: Count = 2
    """Number of linear layers; 1 is a linear map. More: the head takes over more of the pretext task, so the features
    stay more general; slower."""
    batch_norm: bool = False
    """Whether the hidden layers have a batch norm (SimCLR, arXiv:2002.05709; BYOL, arXiv:2006.07733) or not (SCAN)."""
    activation: Activation = "relu"
    """Activation of the hidden layers; gelu in DINO (arXiv:2104.14294)."""

    def build(self, dimension: int) -> "ProjectionHead":
        """Return the head for features [B, dimension]."""
        return ProjectionHead(dimension, self)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Settings of several linear cluster heads, which differ only in their initial weights."""

    kind: Literal["clusters"] = "clusters"
    """The kind of head."""
    clusters: Count
    """Number of clusters of each head."""
    heads: Count = 1
    """Number of heads."""

    def build(self, dimension: int) -> "ClusterHeads":
        """Return the heads for features [B, dimension]."""
        return ClusterHeads(dimension, self)


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """Settings of a linear layer: a single cluster head, or a classifier."""

    kind: Literal["linear"] = "linear"
    """The kind of head."""
    outputs: Count
    """Number of clusters or classes."""

    def build(self, dimension: int) -> "LinearHead":
        """Return the head for features [B, dimension]."""
        return LinearHead(dimension, self)


@dataclass(frozen=True, kw_only=True)
class PrototypeSettings:
    """Settings of a projection with unit prototypes; the defaults are Suave's (arXiv:2306.07483) for ResNet-50."""

    kind: Literal["prototypes"] = "prototypes"
    """The kind of head."""
    prototypes: Count
    """Number of prototypes; the number of classes where they are known (Suave, Daino)."""
    hidden: Count = 2048
    """Width of the projection's hidden layers."""
    outputs: Count = 128
    """Dimension of the embedding."""
    depth: Count = 2
    """Number of the projection's linear layers."""
    batch_norm: bool = True
    """Whether the projection's hidden layers have a batch norm."""
    activation: Activation = "relu"
    """Activation of the projection's hidden layers."""
    temperature: Positive = 0.1
    """Temperature that the cosines are divided by (SwAV, arXiv:2006.09882; Suave; Daino's student)."""

    def build(self, dimension: int) -> "PrototypeHead":
        """Return the head for features [B, dimension]."""
        return PrototypeHead(dimension, self)


@dataclass(frozen=True, kw_only=True)
class InstanceSettings:
    """Settings of a classifier with a projection for the similarity of images (SimMatch, arXiv:2203.06915)."""

    kind: Literal["instances"] = "instances"
    """The kind of head."""
    classes: Count
    """Number of classes."""
    hidden: Count | None = None
    """Width of the projection's hidden layer; null: the dimension of the features, as in SimMatch."""
    outputs: Count = 128
    """Dimension of the embedding."""

    def build(self, dimension: int) -> "InstanceHead":
        """Return the head for features [B, dimension]."""
        return InstanceHead(dimension, self)


HeadSettings = (
    ProjectionSettings
    | ClusterSettings
    | LinearSettings
    | MergedSettings
    | PrototypeSettings
    | InstanceSettings
    | DecoupledSettings
    | ConsensusSettings
    | CentroidSettings
    | CosineSettings
    | PropagationSettings
)


class ProjectionHead(nn.Sequential):
    """A perceptron from features [B, D] to an embedding [B, outputs] that is not L2-normalised."""

    def __init__(self, dimension: int, settings: ProjectionSettings) -> None:
        layers: list[nn.Module] = []
        for _ in range(settings.depth - 1):
            # A batch norm has a bias of its own.
            layers.append(nn.Linear(dimension, settings.hidden, bias=not settings.batch_norm))
            if settings.batch_norm:
                layers.append(nn.BatchNorm1d(settings.hidden))
            layers.append(nn.ReLU(inplace=True) if settings.activation == "relu" else nn.GELU())
            dimension = settings.hidden
        super().__init__(*layers, nn.Linear(dimension, settings.outputs))
        self.settings = settings


class LinearHead(nn.Linear):
    """A linear layer from features [B, D] to logits [B, outputs]."""

    def __init__(self, dimension: int, settings: LinearSettings) -> None:
        super().__init__(dimension, settings.outputs)
        self.settings = settings

    @torch.no_grad()
    def ordered(self, order: Sequence[int]) -> "LinearHead":
        """Return a copy whose output i is output order[i] of this head."""
        other = LinearHead(self.in_features, self.settings).to(self.weight.device)
        other.weight.copy_(self.weight[list(order)])
        other.bias.copy_(self.bias[list(order)])
        return other


class ClusterHeads(nn.Module):
    """H linear heads of C clusters, computed by one matrix product: features [B, D] to logits [H, B, C]."""

    def __init__(self, dimension: int, settings: ClusterSettings) -> None:
        super().__init__()
        self.settings = settings
        # torch's initialisation depends only on the number of inputs, so it is that of H separate layers.
        self.linear = nn.Linear(dimension, settings.heads * settings.clusters)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [H, B, C]."""
        return self.by_image(features).transpose(0, 1)

    def by_image(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, H, C], as they lie in memory; operations on [H, B, C] copy them."""
        logits: Tensor = self.linear(features)
        return logits.view(len(features), self.settings.heads, self.settings.clusters)

    def consensus(self, order: NDArray[Any]) -> ConsensusHead:
        """Return a copy of all heads, their probabilities averaged: features [B, D] to logits [B, C].

        order: [H, C], the output of each head that becomes output c, as `align_heads` returns it.
        """
        weight, bias = stacked(self.linear, self.settings.heads, self.settings.clusters)
        return ConsensusHead.of(weight, bias, order=order, unit_features=False)

    @torch.no_grad()
    def single(self, head: int) -> LinearHead:
        """Return a copy of one head (0-based) on the same device, from features [B, D] to logits [B, C]."""
        clusters = self.settings.clusters
        weight = self.linear.weight
        one = LinearHead(weight.shape[1], LinearSettings(outputs=clusters)).to(weight.device)
        rows = slice(head * clusters, (head + 1) * clusters)
        one.weight.copy_(weight[rows])
        one.bias.copy_(self.linear.bias[rows])
        return one


class PrototypeHead(nn.Module):
    """A projection, L2 normalisation, and a linear layer of unit prototypes (SwAV; Suave and Daino, section 4)."""

    def __init__(self, dimension: int, settings: PrototypeSettings) -> None:
        super().__init__()
        self.settings = settings
        projection = ProjectionSettings(
            hidden=settings.hidden,
            outputs=settings.outputs,
            depth=settings.depth,
            batch_norm=settings.batch_norm,
            activation=settings.activation,
        )
        self.projection = ProjectionHead(dimension, projection)
        self.prototypes = nn.Linear(settings.outputs, settings.prototypes, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, K]: cosines with the prototypes, divided by the temperature."""
        return self.scores(self.embed(features)) / self.settings.temperature

    def embed(self, features: Tensor) -> Tensor:
        """Map features [B, D] to L2-normalised embeddings [B, outputs]."""
        return F.normalize(self.projection(features), dim=1)

    def scores(self, embedding: Tensor) -> Tensor:
        """Return the cosines [B, K] of L2-normalised embeddings [B, outputs] and the prototypes.

        They are computed in float32 under autocast too: bfloat16 rounds a cosine by up to 0.004, which is too much when
        it is divided by a temperature or by Sinkhorn's ε of 0.05.
        """
        weight = self.prototypes.weight
        with torch.autocast(weight.device.type, enabled=False):
            return F.linear(embedding.to(weight.dtype), F.normalize(weight, dim=1))

    def layers(self, features: Tensor) -> list[Tensor]:
        """Return the outputs of the projection's layers for features [B, D], for the linear monitors (Suave, table 6).

        They are the activations of the hidden layers, each [B, hidden], and the output of the last layer, [B, outputs],
        which is not normalised: `embed` returns its F.normalize. Each call updates the running statistics of the batch
        norms, as `embed` does, so a training step calls only one of the two.
        """
        outputs = []
        for layer in self.projection:
            features = layer(features)
            if isinstance(layer, nn.ReLU | nn.GELU):
                outputs.append(features)
        return [*outputs, features]


class InstanceHead(nn.Module):
    """A linear classifier and a projection to a unit embedding: φ and g of SimMatch (sections 3.1 and 3.2)."""

    def __init__(self, dimension: int, settings: InstanceSettings) -> None:
        super().__init__()
        self.settings = settings
        self.classifier = nn.Linear(dimension, settings.classes)
        hidden = settings.hidden or dimension
        self.projection = ProjectionHead(dimension, ProjectionSettings(hidden=hidden, outputs=settings.outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to class logits [B, K]."""
        logits: Tensor = self.classifier(features)
        return logits

    def embed(self, features: Tensor) -> Tensor:
        """Map features [B, D] to L2-normalised embeddings [B, outputs]."""
        return F.normalize(self.projection(features), dim=1)


Classifier = LinearHead | MergedHead | ConsensusHead | CentroidHead | CosineHead
"""Heads of clusters or classes that a classifier can start from: one logit an output, `ordered` by a permutation."""
Head = (
    ProjectionHead
    | ClusterHeads
    | Classifier
    | PrototypeHead
    | InstanceHead
    | DecoupledHead
    | PropagationHead
    | nn.Identity
)


def outputs(head: Head) -> int | None:
    """Return the number of clusters or classes of a head that a classifier can start from, None for other heads."""
    if isinstance(head, MergedHead):
        return head.groups
    if isinstance(head, ConsensusHead | CentroidHead | CosineHead):
        return head.settings.outputs
    return head.out_features if isinstance(head, LinearHead) else None


def build_head(settings: HeadSettings | None, dimension: int) -> Head:
    """Return the head for features [B, dimension], initialised from torch's global generator; the identity for None."""
    return nn.Identity() if settings is None else settings.build(dimension)
