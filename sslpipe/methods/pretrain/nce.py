"""Instance discrimination (Wu et al. 2018): every image is a class of its own, the SCAN paper's pretext task."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.data.images import Images
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.method import Method
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.settings import CountOrZero, Fraction, NonNegative, Positive
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.nets.network import Network
from sslpipe.objectives.nce import estimate_normalizer, instance_softmax, nce, proximal
from sslpipe.views.policies import Views, ViewSettings


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


class Pretext(Method):
    """Wu et al., section 3, with the features of the last visit in a memory bank."""

    memory: Tensor
    normalizer: Tensor
    estimates: Tensor
    first_epoch: Tensor

    def __init__(self, settings: Settings, network: Network, images: Images) -> None:
        """network: its head is replaced by the projection to the sphere. images: the training images."""
        super().__init__()
        self.network = network
        network.head = build_head(settings.projection, network.backbone.dimension)
        self.views = Views(settings.views, network.mean.flatten().tolist())
        self.settings = settings
        start = F.normalize(torch.randn(len(images), settings.projection.outputs), dim=1)
        self.register_buffer("memory", start)
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
        return {}

    def selected(self) -> Network:
        """The network to keep."""
        return self.network
