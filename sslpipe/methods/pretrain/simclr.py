"""SimCLR (Chen et al. 2020, arXiv:2002.05709): two views of an image agree, views of different images do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import Positive
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.nets.passes import BatchStatistics, forward_groups
from sslpipe.objectives.simclr import nt_xent
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: SCAN's public CIFAR configuration of this pretext task."""

    temperature: Positive = 0.1
    """Temperature that the cosines are divided by. Larger: all negatives count more alike, not the most similar ones
    above all."""
    anchors: Literal["both", "first"] = "both"
    """Views that are told from all others: both of each image (SimCLR, eq. 1), or the first alone (SCAN's public code),
    whose negatives are all the same."""
    projection: ProjectionSettings = ProjectionSettings()
    views: ViewSettings = ViewSettings(policy="simclr")
    batch_statistics: BatchStatistics = "joint"
    """joint: both views share a forward pass (public code of SCAN and of SimCLR). separate: each view is normalised by
    batch statistics of its own."""
    fit: FitSettings = FitSettings(
        epochs=500,
        batch=512,
        optimizer=OptimizerSettings(name="sgd", lr=0.4, momentum=0.9, weight_decay=1e-4),
        schedule=ScheduleSettings(name="cosine", final=1e-3),
    )


class Method(SelfSupervised):
    """SimCLR, algorithm 1."""

    collapse_hint = "lower the learning rate or pretrain.simclr.temperature"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.settings = settings
        self.network.head = build_head(settings.projection, self.network.backbone.dimension)

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Sequence[Tensor]:
        """Two views of each image."""
        return self.views(torch.cat([batch.image, batch.image]), generator).chunk(2)

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """NT-Xent of two views of each image."""
        z1, z2 = forward_groups(self.network, views, self.settings.batch_statistics)
        settings = self.settings
        return {"loss": nt_xent(z1.float(), z2.float(), temperature=settings.temperature, anchors=settings.anchors)}

    def loss_at_chance(self) -> dict[str, float]:
        """All embeddings are the same: ln(2B - 1) for batches of B images."""
        return {"loss": log(2 * self.settings.fit.batch - 1)}
