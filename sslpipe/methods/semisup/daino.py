"""Daino (Fini et al. 2023): DINO whose prototypes are the classes'."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslpipe.engine import world
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.method import Pace
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings, half_cosine, linear
from sslpipe.io.settings import Count, Fraction, NonNegative, Positive
from sslpipe.methods.parts import multi_task
from sslpipe.methods.parts.multi_task import SWAV_COLORS
from sslpipe.methods.parts.task import Task
from sslpipe.nets.heads import PrototypeHead
from sslpipe.objectives.dino import assign, distill_crops, moved_center
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(multi_task.Settings):
    """Defaults: section A.1, ImageNet with ViT-S/16; what it leaves to DINO from DINO (recipes.md, 2.2 and 6.5)."""

    labelled_batch: Count = 512
    global_views: ViewSettings = replace(SWAV_COLORS, crop_scale=(0.25, 1.0))
    local_views: ViewSettings = replace(SWAV_COLORS, crop_scale=(0.05, 0.25))
    teacher_temperature: tuple[Positive, Positive] = (0.04, 0.07)
    """ε of eq. 8, at the start and from `teacher_temperature_epochs` on; linear in between."""
    teacher_temperature_epochs: NonNegative = 10.0
    decay: Fraction = 0.99
    """η of eq. 7 at the start; on half a cosine to `final_decay`."""
    final_decay: Fraction = 1.0
    center_momentum: Fraction = 0.9
    """μ of eq. 9."""
    final_weight_decay: NonNegative = 10.0
    """Factor on the weight decay at the end; from 1 on half a cosine (DINO: 0.04 to 0.4)."""
    mix_unlabelled: multi_task.MixUnlabelled = "none"
    fit: FitSettings = FitSettings(
        epochs=60,
        batch=1024,
        # 2.4e-4 for each 256 images, as DINO counts.
        optimizer=OptimizerSettings(name="adamw", lr=9.6e-4, weight_decay=0.04),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=4, final=0.01),
    )


class Learner(multi_task.MultiTask):
    """δ is the teacher's answer, centred and sharpened (eq. 7 to 9)."""

    settings: Settings

    center: Tensor

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.register_buffer("center", torch.zeros(task.labelled.classes))

    def assign(self, crops: Tensor, embeddings: Tensor) -> Tensor:
        """The teacher's scores for the global crops, centred and sharpened (eq. 8)."""
        assert self.averaged is not None
        network = self.averaged.module
        assert isinstance(network.head, PrototypeHead)
        scores = network.head.scores(network.head.embed(network.features(crops.flatten(0, 1)))).float()
        targets = assign(scores, self.center, temperature=self.teacher_temperature())
        self.scores = scores.view(len(crops), -1, scores.shape[1])
        return targets.view_as(self.scores)

    def swapped(self, targets: Tensor, predicted: Sequence[Tensor]) -> Tensor:
        """DINO, algorithm 1: every crop learns the teacher's answers for the other global crops; the centre moves."""
        temperature = self.settings.temperature
        loss = distill_crops(
            [logits * temperature for logits in predicted],
            self.scores,
            self.center,
            student_temperature=temperature,
            teacher_temperature=self.teacher_temperature(),
        )
        everyone = world.gather(self.scores.flatten(0, 1))
        self.center.copy_(moved_center(self.center, everyone, momentum=self.settings.center_momentum))
        return loss

    def teacher_temperature(self) -> float:
        """ε of eq. 8 for this step."""
        epochs = self.settings.teacher_temperature_epochs
        return linear(*self.settings.teacher_temperature, self.progress.epochs / epochs if epochs else 1.0)

    def current_decay(self) -> float:
        """η of eq. 7 for this step."""
        return half_cosine(self.settings.decay, self.settings.final_decay, self.progress.fraction)

    def pace(self) -> Pace:
        """The weight decay's rise."""
        return Pace(weight_decay=half_cosine(1.0, self.settings.final_weight_decay, self.progress.fraction))
