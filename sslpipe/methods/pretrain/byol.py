"""BYOL (Grill et al. 2020, arXiv:2006.07733): predict a target network's output for another view; no negatives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings, half_cosine
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import BelowOne
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.nets.passes import BatchStatistics, forward_groups
from sslpipe.objectives.byol import regression
from sslpipe.views.policies import ViewSettings

PERCEPTRON = ProjectionSettings(hidden=4096, outputs=256, batch_norm=True)
# Appendix B, table 6.
FIRST = ViewSettings(policy="simclr", crop_scale=(0.08, 1.0), interpolation="bicubic", saturation=0.2, blur=1.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the paper's for 1000 epochs of ImageNet (section 3.2)."""

    ema_decay: BelowOne = 0.996
    """τ of the target network at the start; it rises to 1 on half a cosine. Larger: a target that changes more slowly
    and steadily."""
    projection: ProjectionSettings = PERCEPTRON
    prediction: ProjectionSettings = PERCEPTRON
    """The predictor, which the target network does not have; its `outputs` are the projection's."""
    views: ViewSettings = FIRST
    second_views: ViewSettings = replace(FIRST, blur=0.1, solarize=0.2)
    batch_statistics: BatchStatistics = "separate"
    """separate: each view has a forward pass and batch statistics of its own, in both networks (public code). joint:
    one pass for both views."""
    fit: FitSettings = FitSettings(
        epochs=1000,
        batch=4096,
        # 0.2 for each 256 images.
        optimizer=OptimizerSettings(name="lars", lr=3.2, momentum=0.9, weight_decay=1.5e-6),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=10),
    )


class Method(SelfSupervised):
    """BYOL, algorithm 1. The target network's batch norms use batch statistics, as in the paper."""

    collapse_hint = "raise pretrain.byol.ema_decay, lower the learning rate, let the predictor have batch_norm"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.settings = settings
        self.second_views = self.policy(settings.second_views)
        self.network.head = build_head(settings.projection, self.network.backbone.dimension)
        outputs = settings.projection.outputs
        self.predictor = build_head(replace(settings.prediction, outputs=outputs), outputs)
        self.target = AveragedWeights(self.network, own_statistics=True)

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Sequence[Tensor]:
        """Two views of each image."""
        return self.views(batch.image, generator), self.second_views(batch.image, generator)

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The sum of eq. 2 over both orders of the views (section 3.1 and public code)."""
        statistics = self.settings.batch_statistics
        first, second = forward_groups(lambda view: self.predictor(self.network(view)), views, statistics)
        first_target, second_target = forward_groups(self.target, views, statistics)
        return {"loss": regression(first, second_target) + regression(second, first_target)}

    def after_step(self) -> None:
        """Update the target network (eq. 1)."""
        self.target.update(self.network, decay=half_cosine(self.settings.ema_decay, 1.0, self.progress.fraction))

    def loss_at_chance(self) -> dict[str, float]:
        """Predictions and targets are orthogonal in both orders of the views: 2 + 2."""
        return {"loss": 4.0}
