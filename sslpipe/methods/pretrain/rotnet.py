"""RotNet (Gidaris et al. 2018, arXiv:1803.07728): predict by which of four angles an image was rotated."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.nets.heads import LinearSettings, build_head
from sslpipe.objectives.rotnet import rotation
from sslpipe.views.geometry import all_rotations
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the public code's for CIFAR-10."""

    views: ViewSettings = ViewSettings(policy="weak", shift_padding="zeros")
    """Views before the rotation: flips, shifts by 4 of 32 pixels with zeros outside the image."""
    fit: FitSettings = FitSettings(
        epochs=200,
        batch=128,
        optimizer=OptimizerSettings(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSettings(name="steps", milestones=(0.3, 0.6, 0.8), gamma=0.2),
    )
    """Each image of the batch is used in all four rotations."""


class Method(SelfSupervised):
    """Classification of four rotations (eq. 2 and 3)."""

    collapse_hint = "lower the learning rate; or the images look the same in all orientations"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.network.head = build_head(LinearSettings(outputs=4), self.network.backbone.dimension)

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One view of each image, in all four rotations."""
        return all_rotations(self.views(batch.image, generator))

    def losses(self, batch: Batch, views: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of all four rotations of each view."""
        logits = self.network(views)
        turns = torch.arange(4, device=logits.device).repeat_interleave(len(batch))
        return {"loss": rotation(logits), "rotation_acc": (logits.argmax(dim=1) == turns).float().mean()}

    def loss_at_chance(self) -> dict[str, float]:
        """All four rotations are equally likely: ln 4."""
        return {"loss": log(4)}
