"""Feature Decoupling (Feng et al. 2019): half of the feature tells rotations, the other half tells images."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, Positive
from sslpipe.methods.pretext.task import SelfSupervised, Task, unit_rows
from sslpipe.nets.heads import DecoupledHead, DecoupledSettings
from sslpipe.objectives.feature_decoupling import agreement, instances, rotation, rotation_weights
from sslpipe.views.geometry import quarter_turns
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the public code's for ImageNet (recipes.md, 6.6)."""

    rotation_weight: NonNegative = 1.0
    agreement_weight: NonNegative = 1.0
    instance_weight: NonNegative = 1.0
    temperature: Positive = 0.07
    negatives: CountOrZero = 4096
    """Rows of the memory that stand for all others; 0: all of them."""
    momentum: Fraction = 0.5
    """Share of the old embedding that stays in memory."""
    gamma: Positive = 2.0
    """γ of the weights 1 - p^γ of turned images."""
    ambiguity_from: Fraction = 210 / 245
    """Share of the run from which on they are weighted; 1: never. p is what this network said at the image's last
    visits; the paper takes it from another one, trained before."""
    outputs: Count = 128
    views: ViewSettings = ViewSettings(policy="weak", crop_scale=(0.2, 1.0))
    fit: FitSettings = FitSettings(
        epochs=245,
        batch=192,
        optimizer=OptimizerSettings(name="sgd", lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSettings(name="steps", milestones=(0.37, 0.53, 0.78), gamma=0.1),
    )
    """Each image of the batch is seen in all four rotations."""


class Pretext(SelfSupervised):
    """Feng et al., section 3: the sum of rotation, agreement and instance terms."""

    remedy = "lower the learning rate"

    memory: Tensor
    upright: Tensor

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(task, settings.views)
        self.settings = settings
        self.network.head = DecoupledHead(self.network.backbone.dimension, DecoupledSettings(outputs=settings.outputs))
        self.register_buffer("memory", unit_rows(len(task.images), settings.outputs))
        self.register_buffer("upright", torch.zeros(3, len(task.images)))
        self._latest: tuple[Tensor, Tensor, Tensor] | None = None

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """All four rotations of each view; memories as the last visits left them."""
        settings, head = self.settings, self.network.head
        assert isinstance(head, DecoupledHead)
        features = self.network.features(quarter_turns(self.views(batch.image, generator)))
        covariant, invariant = (half.view(4, len(batch.image), -1) for half in head.halves(features))
        logits = head.rotation(covariant).float()
        embedding = head.embed(invariant.mean(dim=0)).float()
        self._latest = batch.index, embedding.detach(), logits.detach().softmax(dim=2)[1:, :, 0]

        noise = None
        if 0 < settings.negatives < len(self.memory):
            noise = torch.randint(len(self.memory), (settings.negatives,), generator=generator, device=embedding.device)
        ambiguous = self.upright[:, batch.index] * (self.progress.fraction >= settings.ambiguity_from)
        terms = {
            "rotation": rotation(logits, rotation_weights(ambiguous, gamma=settings.gamma)),
            "agreement": agreement(invariant),
            "instances": instances(embedding, batch.index, self.memory, noise, temperature=settings.temperature),
        }
        loss = (
            settings.rotation_weight * terms["rotation"]
            + settings.agreement_weight * terms["agreement"]
            + settings.instance_weight * terms["instances"]
        )
        return {"loss": loss, **terms}

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the visited images' rows of both memories towards what was seen now."""
        if self._latest is None:
            return
        index, embedding, upright = self._latest
        momentum = self.settings.momentum
        self.memory[index] = F.normalize(momentum * self.memory[index] + (1 - momentum) * embedding, dim=1)
        self.upright[:, index] = momentum * self.upright[:, index] + (1 - momentum) * upright
        self._latest = None

    def chance(self) -> dict[str, float]:
        """Rows of the memory alike."""
        negatives = self.settings.negatives
        rows = negatives + 1 if 0 < negatives < len(self.memory) else len(self.memory)
        return {"instances": log(rows)}
