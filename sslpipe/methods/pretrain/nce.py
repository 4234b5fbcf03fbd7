"""Instance discrimination (Wu et al. 2018, arXiv:1805.01978): every image is a class; SCAN's pretext task."""

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.settings import CountOrZero, Fraction, NonNegative, Positive
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.methods.pretrain._memory import MemoryBank
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.objectives.nce import estimate_normalizer, instance_softmax, nce, proximal
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: Wu et al., section 4, and their public CIFAR-10 configuration."""

    temperature: Positive = 0.07
    """Wu et al., section 3.1."""
    negatives: CountOrZero = 4096
    """Noise rows for each image, the public code's default; 0: the full softmax (eq. 2), which is the command of its
    README for CIFAR-10 and better up to some 50,000 images."""
    normalizer: Literal["first_epoch", "first_batch"] = "first_epoch"
    """Batches from which Z of eq. 4 is estimated, "derived from initial batches" (section 3.2): the average over those
    of the first epoch, or the first alone, as in the public code, which compares it with a random memory."""
    momentum: Fraction = 0.5
    """Share of the old feature that stays in the memory."""
    proximal: NonNegative = 0.0
    """λ of eq. 8; the public code omits the term."""
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

    normalizer: Tensor
    estimates: Tensor
    estimating: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.settings = settings
        self.network.head = build_head(settings.projection, self.network.backbone.dimension)
        self.memory = MemoryBank(len(problem.images), settings.projection.outputs, momentum=settings.momentum)
        self.register_buffer("normalizer", torch.zeros(()))
        self.register_buffer("estimates", torch.zeros(()))
        self.register_buffer("estimating", torch.tensor(True))
        self._latest: tuple[Tensor, Tensor] | None = None

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Discriminate one view of each image against the memory."""
        feature = F.normalize(self.network(self.views(batch.image, generator)).float(), dim=1)
        self._latest = batch.index, feature.detach()
        memory, temperature = self.memory.rows, self.settings.temperature
        if self.settings.negatives == 0:
            discrimination = instance_softmax(feature, batch.index, memory, temperature=temperature)
        else:
            shape = (len(feature), self.settings.negatives)
            noise = torch.randint(len(memory), shape, generator=generator, device=feature.device)
            with torch.no_grad():
                estimate = estimate_normalizer(feature, noise, memory, temperature=temperature)
                self.estimates += self.estimating
                self.normalizer += self.estimating * (estimate - self.normalizer) / self.estimates
            discrimination = nce(
                feature, batch.index, noise, memory, temperature=temperature, normalizer=self.normalizer
            )
        if self.settings.proximal == 0:
            return {"loss": discrimination}
        drift = proximal(feature, memory[batch.index])
        return {"loss": discrimination + self.settings.proximal * drift, "nce": discrimination, "proximal": drift}

    def after_step(self) -> None:
        """Move the visited rows of the memory towards their new features, and keep Z if it is the first batch's."""
        if self._latest is not None:
            self.memory.update(*self._latest)
            self._latest = None
        if self.settings.normalizer == "first_batch":
            self.estimating.fill_(False)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Keep Z fixed after the first epoch."""
        self.estimating.fill_(False)
        return super().after_epoch(terms)

    def loss_at_chance(self) -> dict[str, float]:
        """All rows of the memory are the same; a noise-contrastive estimate has no such value."""
        return {} if self.settings.negatives else {"loss": log(len(self.memory.rows))}
