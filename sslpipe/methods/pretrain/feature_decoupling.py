"""Feature Decoupling (Feng et al. 2019): half of the feature discriminates rotations, the other half instances."""

from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, Positive
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.methods.pretrain._memory import MemoryBank, NoiseContrast, NormalizerBatches, nce_at_chance
from sslpipe.nets.decoupled import DecoupledHead, DecoupledSettings
from sslpipe.nets.heads import LinearHead
from sslpipe.nets.inference import infer
from sslpipe.nets.model_file import load_network
from sslpipe.nets.model_paths import weights_path
from sslpipe.objectives.feature_decoupling import agreement, rotation, rotation_weights
from sslpipe.objectives.nce import instance_softmax
from sslpipe.views.geometry import all_rotations
from sslpipe.views.policies import ViewSettings

ROTATIONS = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the public code's for ImageNet, but for `instances`, `normalizer` and `rotnet`."""

    rotation_weight: NonNegative = 1.0
    """Weight of the loss that tells the rotation. Larger: orientation and shape count more for the features."""
    agreement_weight: NonNegative = 1.0
    """Weight of the loss that brings the rotated copies of an image together. Larger: the invariant half of the
    features ignores rotations more strictly."""
    instance_weight: NonNegative = 1.0
    """Weight of the loss that tells images apart. Larger: the invariant half of the features tells single images apart
    better, at the cost of the other terms."""
    temperature: Positive = 0.07
    """Temperature that the cosines are divided by. Larger: all images count more alike, not the most similar ones above
    all."""
    instances: Literal["softmax", "nce"] = "softmax"
    """How instances are told apart. softmax: over the image's own row of the memory and `negatives` others, the same
    for all images of a batch. nce: noise-contrastive estimation of it, each image's own row against `negatives` of its
    own (section 3.4, public code)."""
    negatives: CountOrZero = 4096
    """Rows of the memory that represent all other images; 0: all rows, for the softmax. More: closer to the softmax
    over all images, slower."""
    normalizer: NormalizerBatches = "first_epoch"
    """Batches from which nce's constant Z is estimated, as in `pretrain.nce`; first_batch in the public code."""
    momentum: Fraction = 0.5
    """Share of the old embedding that stays in the memory. Larger: a steadier memory, which is further behind the
    network."""
    gamma: Positive = 2.0
    """γ of the weights 1 - p^γ of rotated images. Larger: only images that look upright for certain lose their
    weight."""
    ambiguity_from: Fraction = 210 / 245
    """Share of the run after which rotated images are weighted; 1: never. The public code begins at epoch 210, at which
    its learning rate rises again. Larger: a shorter part of the run has the weights."""
    rotnet: str | None = None
    """Folder of a model of pretrain.rotnet on the same images, which predicts p, as in the paper; null: p is this
    network's own average prediction for the image."""
    outputs: Count = 128
    """Dimension of the embedding. Larger: room for more differences between images, slower."""
    views: ViewSettings = ViewSettings(policy="plain", crop_scale=(0.08, 1.0), flip=0.5)
    fit: FitSettings = FitSettings(
        epochs=245,
        batch=192,
        optimizer=OptimizerSettings(name="sgd", lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSettings(
            name="steps",
            milestones=(90 / 245, 130 / 245, 190 / 245, 210 / 245, 230 / 245),
            values=(0.1, 0.01, 0.001, 0.01, 0.001),
        ),
    )
    """Each image of the batch is used in all four rotations."""

    def __post_init__(self) -> None:
        if not (self.rotation_weight or self.agreement_weight or self.instance_weight):
            raise UserError("rotation_weight, agreement_weight, instance_weight: all are 0, so nothing is learned")
        if self.instances == "nce" and not self.negatives:
            raise UserError("negatives: 0 found, expected at least 1 with instances: nce")

    @property
    def files_read(self) -> tuple[Path, ...]:
        """Files that the method reads beside the images."""
        return () if self.rotnet is None else (weights_path(Path(self.rotnet)),)


class Method(SelfSupervised):
    """Feng et al., section 3: the sum of rotation, agreement and instance terms."""

    collapse_hint = "lower the learning rate"

    upright: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.settings = settings
        self.network.head = DecoupledHead(self.network.backbone.dimension, DecoupledSettings(outputs=settings.outputs))
        self.memory = MemoryBank(len(problem.images), settings.outputs, momentum=settings.momentum)
        self.contrast = NoiseContrast(
            negatives=settings.negatives, temperature=settings.temperature, normalizer=settings.normalizer
        )
        self.register_buffer("upright", self._upright(problem))
        self._latest: tuple[Tensor, Tensor, Tensor] | None = None

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One view of each image, in all four rotations."""
        return all_rotations(self.views(batch.image, generator))

    def losses(self, batch: Batch, views: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """All four rotations of each view, with the memories of the last visits."""
        settings, head = self.settings, self.network.head
        assert isinstance(head, DecoupledHead)
        features = self.network.features(views)
        covariant, invariant = (half.view(4, len(batch), -1) for half in head.halves(features))
        logits = head.rotation(covariant).float()
        embedding = head.embed(invariant.mean(dim=0)).float()
        self._latest = batch.index, embedding.detach(), logits.detach().softmax(dim=2)[1:, :, 0]

        ambiguous = self.upright[:, batch.index] * (self.progress.fraction >= settings.ambiguity_from)
        terms = {
            "rotation": rotation(logits, rotation_weights(ambiguous, gamma=settings.gamma)),
            "agreement": agreement(invariant),
            "instances": self._instances(embedding, batch.index, generator),
        }
        loss = (
            settings.rotation_weight * terms["rotation"]
            + settings.agreement_weight * terms["agreement"]
            + settings.instance_weight * terms["instances"]
        )
        return {"loss": loss, **terms}

    def _instances(self, embedding: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
        settings, memory = self.settings, self.memory.rows
        if settings.instances == "nce":
            loss: Tensor = self.contrast(embedding, index, memory, self.progress, generator)
            return loss
        noise = None
        if 0 < settings.negatives < len(memory):
            noise = torch.randint(len(memory), (settings.negatives,), generator=generator, device=embedding.device)
        return instance_softmax(embedding, index, memory, noise, temperature=settings.temperature)

    def _upright(self, problem: Problem) -> Tensor:
        """Return the start values of p, the probability that a rotated image is upright, [3, N]."""
        if self.settings.rotnet is None:
            return torch.zeros(3, len(problem.images))
        folder = Path(self.settings.rotnet)
        network = load_network(folder, problem.info).to(problem.images.device).eval()
        if not isinstance(network.head, LinearHead) or network.head.out_features != ROTATIONS:
            raise UserError(
                f"pretrain.feature_decoupling.rotnet: {folder} found, which predicts no rotations; expected a model of "
                "pretrain.rotnet"
            )
        logits = infer(
            lambda image: network(all_rotations(image)).view(ROTATIONS, len(image), -1), problem.images, dim=1
        )
        return logits.softmax(dim=2)[1:, :, 0]

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the visited images' rows of the memory, and of p unless it is RotNet's, towards their new values."""
        if self._latest is None:
            return
        index, embedding, upright = self._latest
        self.memory.update(index, embedding)
        self._latest = None
        if self.settings.rotnet is None:
            momentum = self.settings.momentum
            self.upright[:, index] = momentum * self.upright[:, index] + (1 - momentum) * upright

    def loss_at_chance(self) -> dict[str, float]:
        """All rows of the memory are the same: ln(M + 1) for M negatives, ln N for all rows.

        A noise-contrastive estimate with a constant Z has no value at which it stays.
        """
        return {} if self.settings.instances == "nce" else {"instances": self._instances_at_chance()}

    def _instances_at_chance(self) -> float:
        """The instance term if all images are equally likely."""
        negatives, rows = self.settings.negatives, len(self.memory.rows)
        if self.settings.instances == "nce":
            return nce_at_chance(negatives)
        return log(negatives + 1 if 0 < negatives < rows else rows)

    def chance_loss(self) -> float | None:
        """Outputs are the same for all images: the weighted sum of ln 4, 0 and `_instances_at_chance`.

        From `ambiguity_from` on, p is 1/4 for such a network, so that the rotated images have the weight 1 - 4^-γ. None
        then if p is a RotNet model's.
        """
        settings, weight = self.settings, 1.0
        if self.progress.before.fraction >= settings.ambiguity_from:
            if settings.rotnet is not None:
                return None
            weight = 1 - (ROTATIONS - 1) / ROTATIONS * ROTATIONS**-settings.gamma
        rotation_loss = settings.rotation_weight * weight * log(ROTATIONS)
        return rotation_loss + settings.instance_weight * self._instances_at_chance()
