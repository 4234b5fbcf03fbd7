"""RotNet (Gidaris et al. 2018): by how many quarter turns was the image rotated?"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.methods.pretext.task import SelfSupervised, Task
from sslpipe.nets.heads import LinearSettings, build_head
from sslpipe.objectives.rotnet import rotation
from sslpipe.views.geometry import quarter_turns
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the public code's for CIFAR-10 (recipes.md, 6.6)."""

    views: ViewSettings = ViewSettings(policy="weak")
    """Of an image, before it is turned: flips, shifts by 4 of 32 pixels."""
    fit: FitSettings = FitSettings(
        epochs=200,
        batch=128,
        optimizer=OptimizerSettings(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSettings(name="steps", milestones=(0.3, 0.6, 0.8), gamma=0.2),
    )
    """Each image of the batch is seen in all four rotations."""


class Pretext(SelfSupervised):
    """Eq. 2 and 3: the features have to change with the rotation, where other tasks want them not to."""

    remedy = "lower the learning rate; or the images look the same in all orientations"

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(task, settings.views)
        self.network.head = build_head(LinearSettings(outputs=4), self.network.backbone.dimension)

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """All four rotations of each view."""
        logits = self.network(quarter_turns(self.views(batch.image, generator)))
        turns = torch.arange(4, device=logits.device).repeat_interleave(len(batch.image))
        return {"loss": rotation(logits), "rotation_acc": (logits.argmax(dim=1) == turns).float().mean()}

    def chance(self) -> dict[str, float]:
        """Four rotations."""
        return {"loss": log(4)}
