"""Instance discrimination (Wu et al. 2018, arXiv:1805.01978): every image is a class; SCAN's pretext task."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import CountOrZero, Fraction, NonNegative, Positive
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.methods.pretrain._memory import MemoryBank, NoiseContrast, NormalizerBatches, nce_at_chance
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.objectives.nce import instance_softmax, proximal
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: Wu et al., section 4, and their public CIFAR-10 configuration."""

    temperature: Positive = 0.07
    """Temperature that the cosines are divided by (Wu et al., section 3.1). Larger: all images count more alike, not
    the most similar ones above all."""
    negatives: CountOrZero = 4096
    """Noise rows for each image, the public code's default; 0: the full softmax (eq. 2), which is the command of its
    README for CIFAR-10 and better up to some 50,000 images. More: closer to the full softmax, slower."""
    normalizer: NormalizerBatches = "first_epoch"
    """Batches from which Z of eq. 4 is estimated, "derived from initial batches" (section 3.2): the average over those
    of the first epoch, or the first alone, as in the public code, which compares it with a random memory. With the
    latter the loss rises at the public code's rate (tiny_resnet, 20,000 images of CIFAR-10 at 8 px, four epochs: kNN
    0.20 against 0.29); with Adam on the digits both are alike."""
    momentum: Fraction = 0.5
    """Share of the old feature that stays in the memory. Larger: a steadier memory, which is further behind the
    network."""
    proximal: NonNegative = 0.0
    """λ of eq. 8, the weight of the distance to the feature in the memory; the public code omits the term. Larger: a
    smoother but slower change of the features."""
    projection: ProjectionSettings = ProjectionSettings(depth=1)
    views: ViewSettings = ViewSettings(policy="simclr", flip=0.0)
    fit: FitSettings = FitSettings(
        epochs=200,
        batch=128,
        optimizer=OptimizerSettings(name="sgd", lr=0.03, momentum=0.9, weight_decay=5e-4),
        schedule=ScheduleSettings(name="steps", milestones=(0.6, 0.8), gamma=0.1),
    )
    """The rate falls at epochs 120 and 160 of 200."""


class Method(SelfSupervised):
    """Wu et al., section 3, with the features of the last visit in a memory bank."""

    collapse_hint = "lower the learning rate or raise pretrain.nce.temperature"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.settings = settings
        self.network.head = build_head(settings.projection, self.network.backbone.dimension)
        self.memory = MemoryBank(len(problem.images), settings.projection.outputs, momentum=settings.momentum)
        self.contrast = NoiseContrast(
            negatives=settings.negatives, temperature=settings.temperature, normalizer=settings.normalizer
        )
        self._latest: tuple[Tensor, Tensor] | None = None

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One view of each image."""
        return self.views(batch.image, generator)

    def losses(self, batch: Batch, views: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Discriminate one view of each image against the memory."""
        feature = F.normalize(self.network(views).float(), dim=1)
        self._latest = batch.index, feature.detach()
        memory = self.memory.rows
        if self.settings.negatives == 0:
            discrimination = instance_softmax(feature, batch.index, memory, temperature=self.settings.temperature)
        else:
            discrimination = self.contrast(feature, batch.index, memory, self.progress, generator)
        if self.settings.proximal == 0:
            return {"loss": discrimination}
        drift = proximal(feature, memory[batch.index])
        return {"loss": discrimination + self.settings.proximal * drift, "nce": discrimination, "proximal": drift}

    def after_step(self) -> None:
        """Move the visited rows of the memory towards their new features."""
        if self._latest is not None:
            self.memory.update(*self._latest)
            self._latest = None

    def loss_at_chance(self) -> dict[str, float]:
        """All N rows of the memory are the same: ln N.

        A noise-contrastive estimate with a constant Z has no value at which it stays.
        """
        return {} if self.settings.negatives else {"loss": log(len(self.memory.rows))}

    def chance_loss(self) -> float:
        """All N images are equally likely: ln N, or `nce_at_chance`; the proximal term is 0."""
        negatives = self.settings.negatives
        return nce_at_chance(negatives) if negatives else log(len(self.memory.rows))
