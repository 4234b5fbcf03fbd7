"""DINO (Caron et al. 2021): a network learns the centred and sharpened answers of its own average."""

from dataclasses import dataclass, replace
from math import log
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine import world
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.method import Pace
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings, half_cosine, linear
from sslpipe.io.settings import Count, Fraction, NonNegative, Positive
from sslpipe.methods.pretext.crops import GLOBAL_CROPS, SWAV_CROP, CropSettings, MultiCrop
from sslpipe.methods.pretext.task import SelfSupervised, Task
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.heads import Activation, PrototypeHead, PrototypeSettings
from sslpipe.nets.network import Network
from sslpipe.objectives.dino import distill_crops, moved_center

MILD = replace(SWAV_CROP, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: DINO's of 100 epochs with ViT-S/16, ImageNet (its public code; recipes.md, 6.5)."""

    prototypes: Count = 65_536
    """Outputs K."""
    hidden: Count = 2048
    outputs: Count = 256
    """The bottleneck before the last layer, whose rows have length 1 (weight norm)."""
    depth: Count = 3
    batch_norm: bool = False
    activation: Activation = "gelu"
    """These five of the projection."""
    student_temperature: Positive = 0.1
    teacher_temperature: tuple[Positive, Positive] = (0.04, 0.04)
    """At the start and from `teacher_temperature_epochs` on; linear in between (longer runs: 0.04 to 0.07 in 30)."""
    teacher_temperature_epochs: NonNegative = 0.0
    momentum: Fraction = 0.996
    """Of the teacher at the start; to 1 on half a cosine."""
    center_momentum: Fraction = 0.9
    frozen_epochs: NonNegative = 1.0
    """First epochs in which the last layer stays as it was drawn."""
    final_weight_decay: NonNegative = 10.0
    """Factor on the weight decay at the end; from 1 on half a cosine (0.04 to 0.4)."""
    keep: Literal["teacher", "student"] = "teacher"
    """The teacher is the better one (section 5.2), Daino's public code starts from the student."""
    crops: CropSettings = CropSettings(
        large=replace(MILD, crop_scale=(0.4, 1.0)), small=replace(MILD, crop_scale=(0.05, 0.4)), small_crops=8
    )
    fit: FitSettings = FitSettings(
        epochs=100,
        batch=1024,
        # 5e-4 for each 256 images.
        optimizer=OptimizerSettings(name="adamw", lr=2e-3, weight_decay=0.04),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=10, final=5e-4),
        clip=3.0,
        clip_by="tensor",
    )


class Pretext(SelfSupervised):
    """DINO, algorithm 1, with multi-crop. The teacher's batch norms, if any, are its own, as in the public code."""

    remedy = "raise pretrain.dino.momentum, lower teacher_temperature, freeze the last layer for longer"

    center: Tensor

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(task, settings.crops.large)
        self.settings = settings
        self.network.head = PrototypeHead(
            self.network.backbone.dimension,
            PrototypeSettings(
                prototypes=settings.prototypes,
                hidden=settings.hidden,
                outputs=settings.outputs,
                depth=settings.depth,
                batch_norm=settings.batch_norm,
                activation=settings.activation,
                temperature=settings.student_temperature,
            ),
        )
        self.crops = MultiCrop(settings.crops, self.policy)
        self.teacher = AveragedWeights(self.network, own_statistics=True)
        self.register_buffer("center", torch.zeros(settings.prototypes))

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The student sees all crops, the teacher the large ones."""
        head, settings = self.network.head, self.settings
        assert isinstance(head, PrototypeHead)
        head.prototypes.requires_grad_(self.progress.epochs >= settings.frozen_epochs)
        crops = self.crops(batch.image, generator)
        scores = head.scores(head.embed(torch.cat(self.network.features_of(crops))))
        with torch.no_grad():
            taught = self._teacher_scores(torch.cat(crops[:GLOBAL_CROPS]))
        loss = distill_crops(
            torch.split(scores, len(batch.image)),
            taught.view(GLOBAL_CROPS, len(batch.image), -1),
            self.center,
            student_temperature=settings.student_temperature,
            teacher_temperature=self.teacher_temperature(),
        )
        self.center.copy_(moved_center(self.center, world.gather(taught), momentum=settings.center_momentum))
        return {"loss": loss}

    def _teacher_scores(self, crops: Tensor) -> Tensor:
        network = self.teacher.module
        assert isinstance(network.head, PrototypeHead)
        return network.head.scores(network.head.embed(network.features(crops))).float()

    def teacher_temperature(self) -> float:
        """τ of the teacher for this step."""
        epochs = self.settings.teacher_temperature_epochs
        return linear(*self.settings.teacher_temperature, self.progress.epochs / epochs if epochs else 1.0)

    def pace(self) -> Pace:
        """The weight decay's rise."""
        return Pace(weight_decay=half_cosine(1.0, self.settings.final_weight_decay, self.progress.fraction))

    def after_step(self) -> None:
        """Let the teacher follow."""
        self.teacher.update(self.network, decay=half_cosine(self.settings.momentum, 1.0, self.progress.fraction))

    def selected(self) -> Network:
        """The network to keep."""
        return self.teacher.module if self.settings.keep == "teacher" else self.network

    def chance(self) -> dict[str, float]:
        """Answers alike."""
        return {"loss": log(self.settings.prototypes)}
