"""BYOL (Grill et al. 2020, arXiv:2006.07733): predict a target network's output for another view; no negatives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.methods.pretrain._base import Problem
from sslpipe.methods.pretrain._target import TargetMethod, TargetSettings
from sslpipe.nets.passes import forward_groups
from sslpipe.objectives.byol import regression
from sslpipe.views.policies import ViewSettings

# Appendix B, table 6.
FIRST = ViewSettings(policy="simclr", crop_scale=(0.08, 1.0), interpolation="bicubic", saturation=0.2, blur=1.0)


@dataclass(frozen=True, kw_only=True)
class Settings(TargetSettings):
    """Defaults: the paper's for 1000 epochs of ImageNet (section 3.2)."""

    views: ViewSettings = FIRST
    second_views: ViewSettings = replace(FIRST, blur=0.1, solarize=0.2)
    fit: FitSettings = FitSettings(
        epochs=1000,
        batch=4096,
        # 0.2 for each 256 images.
        optimizer=OptimizerSettings(name="lars", lr=3.2, momentum=0.9, weight_decay=1.5e-6),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=10),
    )


class Method(TargetMethod):
    """BYOL, algorithm 1. The target network's batch norms use batch statistics, as in the paper."""

    collapse_hint = "raise pretrain.byol.ema_decay, lower the learning rate, let the predictor have batch_norm"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.settings = settings

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The sum of eq. 2 over both orders of the views (section 3.1 and public code)."""
        statistics = self.settings.batch_statistics
        first, second = forward_groups(lambda view: self.predictor(self.network(view)), views, statistics)
        first_target, second_target = forward_groups(self.target, views, statistics)
        return {"loss": regression(first, second_target) + regression(second, first_target)}

    def loss_at_chance(self) -> dict[str, float]:
        """Predictions and targets are orthogonal in both orders of the views: 2 + 2."""
        return {"loss": 4.0}
