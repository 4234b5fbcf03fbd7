"""What stands on a backbone: projections, cluster heads, a linear layer, prototypes, a classifier with embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.settings import Count, Positive
from sslpipe.nets.merged import MergedHead, MergedSettings

Activation = Literal["relu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """A projection head. The defaults are those of SCAN's pretext: 512 → 512 → ReLU → 128, without batch norm."""

    kind: Literal["projection"] = "projection"
    hidden: Count = 512
    """Width of the hidden layers."""
    outputs: Count = 128
    depth: Count = 2
    """Number of linear layers; 1 is a linear map."""
    batch_norm: bool = False
    """Normalise the hidden layers (SimCLR, MoCo v3, BYOL) or not (SCAN)."""
    activation: Activation = "relu"
    """After the hidden layers; gelu in DINO."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Linear cluster heads, which differ in their start values alone."""

    kind: Literal["clusters"] = "clusters"
    clusters: Count
    heads: Count = 1


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """One linear layer: a single cluster head, or a classifier."""

    kind: Literal["linear"] = "linear"
    outputs: Count


@dataclass(frozen=True, kw_only=True)
class PrototypeSettings:
    """A projection and unit prototypes. The defaults are Suave's for ResNet-50: 2048 → 2048 → 128, as SwAV's."""

    kind: Literal["prototypes"] = "prototypes"
    prototypes: Count
    """As many as classes where these are known (Suave, Daino)."""
    hidden: Count = 2048
    outputs: Count = 128
    depth: Count = 2
    batch_norm: bool = True
    activation: Activation = "relu"
    """These five as those of ProjectionSettings."""
    temperature: Positive = 0.1
    """The cosines are divided by it (SwAV, Suave, Daino's student)."""


@dataclass(frozen=True, kw_only=True)
class InstanceSettings:
    """A classifier, and beside it a projection for the similarity of instances (SimMatch)."""

    kind: Literal["instances"] = "instances"
    classes: Count
    hidden: Count | None = None
    """Width of the projection's hidden layer; null: that of the features, as SimMatch's 2048 → 2048 → 128."""
    outputs: Count = 128


@dataclass(frozen=True, kw_only=True)
class DecoupledSettings:
    """One half of the features tells rotations, the other one instances (Feature Decoupling)."""

    kind: Literal["decoupled"] = "decoupled"
    rotations: Count = 4
    outputs: Count = 128


HeadSettings = (
    ProjectionSettings
    | ClusterSettings
    | LinearSettings
    | MergedSettings
    | PrototypeSettings
    | InstanceSettings
    | DecoupledSettings
)


class ProjectionHead(nn.Sequential):
    """A perceptron: [B, D] to [B, outputs], not L2-normalised."""

    def __init__(self, dimension: int, settings: ProjectionSettings) -> None:
        layers: list[nn.Module] = []
        for _ in range(settings.depth - 1):
            # The batch norm's shift is the bias.
            layers.append(nn.Linear(dimension, settings.hidden, bias=not settings.batch_norm))
            if settings.batch_norm:
                layers.append(nn.BatchNorm1d(settings.hidden))
            layers.append(nn.ReLU(inplace=True) if settings.activation == "relu" else nn.GELU())
            dimension = settings.hidden
        super().__init__(*layers, nn.Linear(dimension, settings.outputs))
        self.settings = settings


class LinearHead(nn.Linear):
    """[B, D] to logits [B, outputs]."""

    def __init__(self, dimension: int, settings: LinearSettings) -> None:
        super().__init__(dimension, settings.outputs)
        self.settings = settings

    @torch.no_grad()
    def ordered(self, order: Sequence[int]) -> "LinearHead":
        """A copy whose output i is this one's output order[i]."""
        other = LinearHead(self.in_features, self.settings).to(self.weight.device)
        other.weight.copy_(self.weight[list(order)])
        other.bias.copy_(self.bias[list(order)])
        return other


class ClusterHeads(nn.Module):
    """H linear heads of C clusters as one matrix product: [B, D] to logits [H, B, C]."""

    def __init__(self, dimension: int, settings: ClusterSettings) -> None:
        super().__init__()
        self.settings = settings
        # torch's start values depend on the input's width alone, so they are those of H separate layers.
        self.linear = nn.Linear(dimension, settings.heads * settings.clusters)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] to logits [H, B, C]."""
        logits: Tensor = self.linear(features)
        return logits.view(len(features), self.settings.heads, self.settings.clusters).transpose(0, 1)

    @torch.no_grad()
    def single(self, head: int) -> LinearHead:
        """A copy of one head (0-based) on the same device: [B, D] to logits [B, C]."""
        clusters = self.settings.clusters
        weight = self.linear.weight
        one = LinearHead(weight.shape[1], LinearSettings(outputs=clusters)).to(weight.device)
        rows = slice(head * clusters, (head + 1) * clusters)
        one.weight.copy_(weight[rows])
        one.bias.copy_(self.linear.bias[rows])
        return one


class PrototypeHead(nn.Module):
    """Projection, L2 normalisation, and a bias-free layer of L2-normalised rows (Suave and Daino, section 4; SwAV)."""

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
        """[B, D] to logits [B, K]: cosine over temperature."""
        return self.scores(self.embed(features)) / self.settings.temperature

    def embed(self, features: Tensor) -> Tensor:
        """[B, D] to [B, outputs], each of length 1."""
        return F.normalize(self.projection(features), dim=1)

    def scores(self, embedding: Tensor) -> Tensor:
        """Cosines [B, K] of embeddings [B, outputs] of length 1 with the prototypes; in float32 under autocast, too.

        Divided by a temperature or by Sinkhorn's ε of 0.05, bfloat16's steps of 0.004 would be too coarse.
        """
        weight = self.prototypes.weight
        with torch.autocast(weight.device.type, enabled=False):
            return F.linear(embedding.to(weight.dtype), F.normalize(weight, dim=1))

    def layers(self, features: Tensor) -> list[Tensor]:
        """What each of the projection's layers makes of [B, D]: the hidden ones after ReLU, [B, hidden], then the last.

        The last, [B, outputs], is not normalised: `embed` is its F.normalize. For linear monitors (table 6). Like
        `embed`, one call moves the batch norms' running statistics once: a training step makes one call of either.
        """
        outputs = []
        for layer in self.projection:
            features = layer(features)
            if isinstance(layer, nn.ReLU | nn.GELU):
                outputs.append(features)
        return [*outputs, features]


class InstanceHead(nn.Module):
    """SimMatch's φ and g on the same features: linear class logits, and a perceptron to a unit embedding (3.1, 3.2)."""

    def __init__(self, dimension: int, settings: InstanceSettings) -> None:
        super().__init__()
        self.settings = settings
        self.classifier = nn.Linear(dimension, settings.classes)
        hidden = settings.hidden or dimension
        self.projection = ProjectionHead(dimension, ProjectionSettings(hidden=hidden, outputs=settings.outputs))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] to class logits [B, K]."""
        logits: Tensor = self.classifier(features)
        return logits

    def embed(self, features: Tensor) -> Tensor:
        """[B, D] to [B, outputs], each of length 1."""
        return F.normalize(self.projection(features), dim=1)


class DecoupledHead(nn.Module):
    """Feature Decoupling's two tasks, each on its half of the features (Feng et al. 2019, section 3)."""

    def __init__(self, dimension: int, settings: DecoupledSettings) -> None:
        super().__init__()
        self.settings = settings
        half = dimension // 2
        self.rotation = nn.Linear(half, settings.rotations)
        self.projection = nn.Linear(dimension - half, settings.outputs)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] to the unit embedding [B, outputs] of the half that is alike in all rotations."""
        return self.embed(self.halves(features)[1])

    def halves(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, D] to the half for rotations, [B, D // 2], and the one to be alike in all of them, [B, D - D // 2]."""
        covariant, invariant = torch.split(features, [self.rotation.in_features, self.projection.in_features], dim=1)
        return covariant, invariant

    def embed(self, invariant: Tensor) -> Tensor:
        """[B, D - D // 2] to [B, outputs], each of length 1."""
        return F.normalize(self.projection(invariant), dim=1)


Head = (
    ProjectionHead | ClusterHeads | LinearHead | MergedHead | PrototypeHead | InstanceHead | DecoupledHead | nn.Identity
)


def outputs(head: Head) -> int | None:
    """How many clusters or classes a head's logits are of, where these may become a classifier's; else None."""
    if isinstance(head, MergedHead):
        return head.groups
    return head.out_features if isinstance(head, LinearHead) else None


def build_head(settings: HeadSettings | None, dimension: int) -> Head:
    """The head for features [B, dimension], its start values drawn from torch's global generator.

    None: the features themselves.
    """
    if isinstance(settings, ProjectionSettings):
        return ProjectionHead(dimension, settings)
    if isinstance(settings, ClusterSettings):
        return ClusterHeads(dimension, settings)
    if isinstance(settings, LinearSettings):
        return LinearHead(dimension, settings)
    if isinstance(settings, MergedSettings):
        return MergedHead(dimension, settings)
    if isinstance(settings, PrototypeSettings):
        return PrototypeHead(dimension, settings)
    if isinstance(settings, InstanceSettings):
        return InstanceHead(dimension, settings)
    if isinstance(settings, DecoupledSettings):
        return DecoupledHead(dimension, settings)
    return nn.Identity()
