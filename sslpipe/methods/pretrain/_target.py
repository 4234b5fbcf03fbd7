"""A network with a predictor of a target network's output for another view: what BYOL and ProPos have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.schedules import half_cosine
from sslpipe.io.settings import BelowOne
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.nets.passes import BatchStatistics
from sslpipe.views.policies import ViewSettings

PERCEPTRON = ProjectionSettings(hidden=4096, outputs=256, batch_norm=True)


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Networks, views and batch statistics, with the defaults of BYOL (arXiv:2006.07733, section 3.2)."""

    ema_decay: BelowOne = 0.996
    """τ of the target network at the start; it rises to 1 on half a cosine. Larger: a target that changes more slowly
    and steadily."""
    projection: ProjectionSettings = PERCEPTRON
    prediction: ProjectionSettings = PERCEPTRON
    """The predictor, which the target network does not have; its `outputs` are the projection's."""
    views: ViewSettings
    second_views: ViewSettings
    batch_statistics: BatchStatistics = "separate"
    """separate: each view has a forward pass and batch statistics of its own, in both networks (public code). joint:
    one pass for both views."""


class TargetMethod(SelfSupervised):
    """A network, a predictor, and a target network whose batch norms use batch statistics."""

    def __init__(self, settings: TargetSettings, problem: Problem) -> None:
        """Build the heads and the predictor with torch's global generator."""
        super().__init__(problem, settings.views)
        self.ema_decay = settings.ema_decay
        self.second_views = self.policy(settings.second_views)
        self.network.head = build_head(settings.projection, self.network.backbone.dimension)
        outputs = settings.projection.outputs
        self.predictor = build_head(replace(settings.prediction, outputs=outputs), outputs)
        self.target = AveragedWeights(self.network, own_statistics=True)

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Sequence[Tensor]:
        """Two views of each image."""
        return self.views(batch.image, generator), self.second_views(batch.image, generator)

    def after_step(self) -> None:
        """Update the target network (BYOL, eq. 1)."""
        self.target.update(self.network, decay=half_cosine(self.ema_decay, 1.0, self.progress.fraction))
