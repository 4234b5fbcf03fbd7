"""Feature Decoupling (Feng et al. 2019): half of the feature discriminates rotations, the other half instances."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, Positive
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.methods.pretrain._memory import MemoryBank
from sslpipe.nets.heads import DecoupledHead, DecoupledSettings
from sslpipe.objectives.feature_decoupling import agreement, rotation, rotation_weights
from sslpipe.objectives.nce import instance_softmax
from sslpipe.views.geometry import all_rotations
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the public code's for ImageNet."""

    rotation_weight: NonNegative = 1.0
    agreement_weight: NonNegative = 1.0
    instance_weight: NonNegative = 1.0
    temperature: Positive = 0.07
    negatives: CountOrZero = 4096
    """Rows of the memory that represent all other images; 0: all rows."""
    momentum: Fraction = 0.5
    """Share of the old embedding that stays in the memory."""
    gamma: Positive = 2.0
    """γ of the weights 1 - p^γ of rotated images."""
    ambiguity_from: Fraction = 210 / 245
    """Share of the run after which rotated images are weighted; 1: never. p is this network's average prediction for
    the image; the paper takes it from another network, trained before."""
    outputs: Count = 128
    views: ViewSettings = ViewSettings(policy="weak", crop_scale=(0.2, 1.0))
    fit: FitSettings = FitSettings(
        epochs=245,
        batch=192,
        optimizer=OptimizerSettings(name="sgd", lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSettings(name="steps", milestones=(0.37, 0.53, 0.78), gamma=0.1),
    )
    """Each image of the batch is used in all four rotations."""

    def __post_init__(self) -> None:
        if not (self.rotation_weight or self.agreement_weight or self.instance_weight):
            raise UserError("rotation_weight, agreement_weight, instance_weight: all are 0, so nothing is learned")


class Method(SelfSupervised):
    """Feng et al., section 3: the sum of rotation, agreement and instance terms."""

    collapse_hint = "lower the learning rate"

    upright: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.settings = settings
        self.network.head = DecoupledHead(self.network.backbone.dimension, DecoupledSettings(outputs=settings.outputs))
        self.memory = MemoryBank(len(problem.images), settings.outputs, momentum=settings.momentum)
        self.register_buffer("upright", torch.zeros(3, len(problem.images)))
        self._latest: tuple[Tensor, Tensor, Tensor] | None = None

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """All four rotations of each view, with the memories of the last visits."""
        settings, head, memory = self.settings, self.network.head, self.memory.rows
        assert isinstance(head, DecoupledHead)
        features = self.network.features(all_rotations(self.views(batch.image, generator)))
        covariant, invariant = (half.view(4, len(batch.image), -1) for half in head.halves(features))
        logits = head.rotation(covariant).float()
        embedding = head.embed(invariant.mean(dim=0)).float()
        self._latest = batch.index, embedding.detach(), logits.detach().softmax(dim=2)[1:, :, 0]

        noise = None
        if 0 < settings.negatives < len(memory):
            noise = torch.randint(len(memory), (settings.negatives,), generator=generator, device=embedding.device)
        ambiguous = self.upright[:, batch.index] * (self.progress.fraction >= settings.ambiguity_from)
        terms = {
            "rotation": rotation(logits, rotation_weights(ambiguous, gamma=settings.gamma)),
            "agreement": agreement(invariant),
            "instances": instance_softmax(embedding, batch.index, memory, noise, temperature=settings.temperature),
        }
        loss = (
            settings.rotation_weight * terms["rotation"]
            + settings.agreement_weight * terms["agreement"]
            + settings.instance_weight * terms["instances"]
        )
        return {"loss": loss, **terms}

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the visited images' rows of both memories towards their new values."""
        if self._latest is None:
            return
        index, embedding, upright = self._latest
        self.memory.update(index, embedding)
        momentum = self.settings.momentum
        self.upright[:, index] = momentum * self.upright[:, index] + (1 - momentum) * upright
        self._latest = None

    def loss_at_chance(self) -> dict[str, float]:
        """All rows of the memory are the same."""
        negatives = self.settings.negatives
        rows = negatives + 1 if 0 < negatives < len(self.memory.rows) else len(self.memory.rows)
        return {"instances": log(rows)}
