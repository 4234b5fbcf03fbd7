"""Suave (Fini et al. 2023): SwAV whose prototypes are the classes'."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sslpipe.engine import world
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Fraction, Positive
from sslpipe.methods.parts import multi_task
from sslpipe.methods.parts.multi_task import GLOBAL_CROPS
from sslpipe.methods.parts.task import Task
from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.queue import EmbeddingQueue
from sslpipe.objectives.swav import sinkhorn, swapped_prediction


@dataclass(frozen=True, kw_only=True)
class Settings(multi_task.Settings):
    """Defaults: section A.1, ImageNet."""

    epsilon: Positive = 0.05
    """ε of eq. 5."""
    iterations: Count = 3
    """Of Sinkhorn and Knopp."""
    queue: CountOrZero = 3840
    """Embeddings of earlier batches that are assigned along, for each global crop; used once they are all there."""
    momentum_encoder: bool = False
    """The averaged network gives the embeddings that are assigned (CIFAR-100: with decay 0.99)."""
    decay: Fraction | None = None
    fit: FitSettings = FitSettings(
        epochs=100,
        batch=256,
        optimizer=OptimizerSettings(name="lars", lr=0.4, momentum=0.9, weight_decay=1e-6),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=5, final=0.0025),
    )

    def __post_init__(self) -> None:
        if self.momentum_encoder and self.decay is None:
            raise UserError("momentum_encoder: needs decay, such as 0.99")


class Learner(multi_task.MultiTask):
    """δ is an optimal transport that gives every class its share of the batch (eq. 4 to 6)."""

    settings: Settings

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.queue = EmbeddingQueue(settings.queue, GLOBAL_CROPS, settings.outputs)

    def assign(self, crops: Tensor, embeddings: Tensor) -> Tensor:
        """Sinkhorn on the scores of each global crop, the queue's along with them (eq. 5)."""
        network = self.network
        if self.settings.momentum_encoder:
            assert self.averaged is not None
            network = self.averaged.module
            assert isinstance(network.head, PrototypeHead)
            embeddings = network.head.embed(network.features(crops.flatten(0, 1))).float().view_as(embeddings)
        assert isinstance(network.head, PrototypeHead)
        everyone, step = world.gather(embeddings.transpose(0, 1)), self.progress.step
        in_use = self.queue.is_full(step, len(everyone))
        context = torch.cat([self.queue.rows, everyone]) if in_use else everyone
        self.queue.push(everyone, step)
        scores = network.head.scores(context.transpose(0, 1))
        assignment = sinkhorn(scores, epsilon=self.settings.epsilon, iterations=self.settings.iterations)
        return assignment[:, -len(everyone) :].chunk(world.size(), dim=1)[world.rank()]

    def swapped(self, targets: Tensor, predicted: Sequence[Tensor]) -> Tensor:
        """SwAV, eq. 2, over all crops."""
        return swapped_prediction(targets, predicted)

    def current_decay(self) -> float:
        """A momentum encoder starts as the network itself and needs no warm-up."""
        assert self.settings.decay is not None
        return self.settings.decay if self.settings.momentum_encoder else super().current_decay()
