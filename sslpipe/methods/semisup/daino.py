"""Daino (Fini et al. 2023, arXiv:2306.07483): DINO with one prototype for each class."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sslpipe.engine.method import Multipliers
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings, half_cosine, linear
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import BelowOne, Fraction, NonNegative, Positive, TwoOrMore
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._prototypes import MixUnlabelled, PrototypeMethod, PrototypesSettings
from sslpipe.nets.heads import PrototypeHead
from sslpipe.objectives.dino import assign, moved_center
from sslpipe.views.multi_crop import DINO_SECOND, DINO_VIEWS
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(PrototypesSettings):
    """Defaults: section A.1, ImageNet with ViT-S/16, and DINO's public code where the paper gives no value."""

    labelled_batch: TwoOrMore = 512
    """Labelled images in a batch, beside the unlabelled ones of `fit.batch`. Larger: less noise in a step, more time
    and memory."""
    global_views: ViewSettings = replace(DINO_VIEWS, crop_scale=(0.25, 1.0), blur=1.0)
    second_global_views: Mapping[str, Any] = field(default_factory=lambda: dict(DINO_SECOND))
    local_views: ViewSettings = replace(DINO_VIEWS, crop_scale=(0.05, 0.25))
    teacher_temperature: tuple[Positive, Positive] = (0.04, 0.07)
    """ε of eq. 8 at the start and from epoch `teacher_temperature_epochs` on; linear in between. Larger: less certain
    targets."""
    teacher_temperature_epochs: NonNegative = 10.0
    """Epochs in which the teacher's temperature goes from its first value to its last. Larger: a slower change."""
    ema_decay: BelowOne = 0.99
    """η of eq. 7 at the start; it rises on half a cosine to `final_ema_decay`. Larger: a teacher that changes more
    slowly and steadily."""
    final_ema_decay: Fraction = 1.0
    """Decay rate of the averaged weights at the end, to which it rises by a cosine from `ema_decay`. Larger: a teacher
    that changes more slowly towards the end; 1: not at all."""
    center_momentum: Fraction = 0.9
    """μ of eq. 9, the decay rate of the centre that is taken off the teacher's outputs. Larger: it follows the outputs
    more slowly."""
    final_weight_decay: NonNegative = 10.0
    """Factor on the weight decay at the end; it rises from 1 on half a cosine (DINO: 0.04 to 0.4). Larger: stronger
    regularisation towards the end."""
    mix_unlabelled: MixUnlabelled = "none"
    fit: FitSettings = FitSettings(
        epochs=60,
        batch=1024,
        # 2.4e-4 for each 256 images, by DINO's linear scaling.
        optimizer=OptimizerSettings(name="adamw", lr=9.6e-4, weight_decay=0.04),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=4, final=0.01),
    )


class Method(PrototypeMethod):
    """δ is the output of a teacher, centred and sharpened (eq. 7 to 9)."""

    settings: Settings

    center: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.register_buffer("center", torch.zeros(problem.labelled.classes))

    def assign(self, views: Tensor, embeddings: Tensor) -> Tensor:
        """The teacher's scores of the global views, centred and sharpened (eq. 8); then the centre moves (eq. 9)."""
        assert self.averaged is not None
        network = self.averaged.module
        assert isinstance(network.head, PrototypeHead)
        scores = network.head.scores(network.head.embed(network.features(views.flatten(0, 1)))).float()
        targets = assign(scores, self.center, temperature=self.teacher_temperature())
        self.center.copy_(moved_center(self.center, scores, momentum=self.settings.center_momentum))
        return targets.view(len(views), -1, scores.shape[1])

    def teacher_temperature(self) -> float:
        """ε of eq. 8 for this step."""
        epochs = self.settings.teacher_temperature_epochs
        return linear(*self.settings.teacher_temperature, self.progress.epochs / epochs if epochs else 1.0)

    def current_ema_decay(self) -> float:
        """η of eq. 7 for this step."""
        return half_cosine(self.settings.ema_decay, self.settings.final_ema_decay, self.progress.fraction)

    def multipliers(self) -> Multipliers:
        """Raise the weight decay."""
        return Multipliers(weight_decay=half_cosine(1.0, self.settings.final_weight_decay, self.progress.fraction))
