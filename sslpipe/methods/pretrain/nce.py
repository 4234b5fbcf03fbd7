"""Instance discrimination (Wu et al. 2018): every image is a class of its own, the SCAN paper's pretext task."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.settings import CountOrZero, Fraction, NonNegative, Positive
from sslpipe.methods.pretext.task import SelfSupervised, Task, unit_rows
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.objectives.nce import estimate_normalizer, instance_softmax, nce, proximal
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: Wu et al., section 4, and their public CIFAR-10 configuration."""

    temperature: Positive = 0.07
    """Wu et al., section 3.1."""
    negatives: CountOrZero = 4096
    """Noise rows an image; 0 takes the full softmax, the better choice up to some 50,000 images."""
    momentum: Fraction = 0.5
    """Share of the old feature that stays in memory."""
    proximal: NonNegative = 0.0
    """λ of eq. 8; the public code leaves it out."""
    projection: ProjectionSettings = ProjectionSettings(depth=1)
    views: ViewSettings = ViewSettings(policy="simclr", flip=0.0)
    fit: FitSettings = FitSettings(
        epochs=200,
        batch=128,
        optimizer=OptimizerSettings(name="sgd", lr=0.03, momentum=0.9, weight_decay=5e-4),
        schedule=ScheduleSettings(name="steps", milestones=(0.4, 0.6, 0.8), gamma=0.1),
    )


class Pretext(SelfSupervised):
    """Wu et al., section 3, with the features of the last visit in a memory bank."""

    remedy = "lower the learning rate or raise pretrain.nce.temperature"

    memory: Tensor
    normalizer: Tensor
    estimates: Tensor
    first_epoch: Tensor

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(task, settings.views)
        self.settings = settings
        self.network.head = build_head(settings.projection, self.network.backbone.dimension)
        self.register_buffer("memory", unit_rows(len(task.images), settings.projection.outputs))
        # Z of eq. 4: "derived from initial batches" (section 3.2), which are those of the first epoch here. The first
        # batch alone, as in the public code, sees a random memory and falls short of Z by orders of magnitude.
        self.register_buffer("normalizer", torch.zeros(()))
        self.register_buffer("estimates", torch.zeros(()))
        self.register_buffer("first_epoch", torch.tensor(True))
        self._latest: tuple[Tensor, Tensor] | None = None

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """One view of each image against the memory."""
        feature = F.normalize(self.network(self.views(batch.image, generator)).float(), dim=1)
        self._latest = batch.index, feature.detach()
        temperature = self.settings.temperature
        if self.settings.negatives == 0:
            discrimination = instance_softmax(feature, batch.index, self.memory, temperature=temperature)
        else:
            shape = (len(feature), self.settings.negatives)
            noise = torch.randint(len(self.memory), shape, generator=generator, device=feature.device)
            with torch.no_grad():
                estimate = estimate_normalizer(feature, noise, self.memory, temperature=temperature)
                self.estimates += self.first_epoch
                self.normalizer += self.first_epoch * (estimate - self.normalizer) / self.estimates
            discrimination = nce(
                feature, batch.index, noise, self.memory, temperature=temperature, normalizer=self.normalizer
            )
        if self.settings.proximal == 0:
            return {"loss": discrimination}
        drift = proximal(feature, self.memory[batch.index])
        return {"loss": discrimination + self.settings.proximal * drift, "nce": discrimination, "proximal": drift}

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the visited rows of the memory towards their new features."""
        if self._latest is None:
            return
        index, feature = self._latest
        momentum = self.settings.momentum
        self.memory[index] = F.normalize(momentum * self.memory[index] + (1 - momentum) * feature, dim=1)
        self._latest = None

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Keep Z as it is from now on."""
        self.first_epoch.fill_(False)
        return super().after_epoch(terms)

    def chance(self) -> dict[str, float]:
        """Rows of the memory alike; a noise-contrastive estimate has no such level."""
        return {} if self.settings.negatives else {"loss": log(len(self.memory))}
