"""MoCo v2 (Chen et al. 2020, arXiv:2003.04297): contrast a view with its image's key and with keys of a queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import BelowOne, Count, Positive
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.methods.pretrain._memory import unit_rows
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.nets.queue import EmbeddingQueue
from sslpipe.objectives.moco import info_nce
from sslpipe.views.policies import ViewSettings

LONGEST_QUEUE = 65_536
"""On ImageNet, a twentieth of the images."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: MoCo v2, ImageNet."""

    temperature: Positive = 0.2
    """Temperature that the cosines are divided by. Larger: all negatives count more alike, not the most similar ones
    above all."""
    ema_decay: BelowOne = 0.999
    """m of eq. 2, the decay of the key encoder's weights. Larger: keys that change more slowly, so those in the queue
    agree better."""
    queue: Count | None = None
    """Number of keys in the queue; null: a quarter of the images, at most 65,536. A queue as long as the data set or
    longer contains an image's own earlier key, which then counts as a negative (own choice; at a quarter this happens
    to 3 % of the queries). More: more negatives, of which more are of the image's own class or outdated."""
    projection: ProjectionSettings = ProjectionSettings(hidden=2048, outputs=128)
    views: ViewSettings = ViewSettings(policy="simclr", blur=0.5)
    fit: FitSettings = FitSettings(
        epochs=200,
        batch=256,
        optimizer=OptimizerSettings(name="sgd", lr=0.03, momentum=0.9, weight_decay=1e-4, decay_all=True),
        schedule=ScheduleSettings(name="cosine"),
    )


class Method(SelfSupervised):
    """MoCo, algorithm 1.

    The key encoder normalises with averaged statistics, not with the batch's, since a query could otherwise recognise
    its key by the batch statistics. MoCo shuffles the batch over several GPUs for this reason; averaged statistics do
    the same on one (Cai et al. 2021, "Exponential moving average normalization", section 3).
    """

    falling: Mapping[str, float] = {}
    """The queue begins with random directions, which any key is easily told from, so the loss rises at first."""
    collapse_hint = "raise pretrain.moco.ema_decay or the queue, lower the learning rate"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.views)
        self.settings = settings
        self.network.head = build_head(settings.projection, self.network.backbone.dimension)
        self.averaged = AveragedWeights(self.network)
        length = settings.queue or max(1, min(LONGEST_QUEUE, len(problem.images) // 4))
        self.queue = EmbeddingQueue(length, settings.projection.outputs)
        self.queue.rows.copy_(unit_rows(*self.queue.rows.shape))

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Sequence[Tensor]:
        """Two views of each image."""
        return self.views(batch.image, generator), self.views(batch.image, generator)

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """InfoNCE with queries from one view and keys from another (eq. 1)."""
        query, key = self.network(views[0]).float(), self.averaged(views[1]).float()
        loss = info_nce(query, key, self.queue.rows, temperature=self.settings.temperature)
        self.queue.push(torch.nn.functional.normalize(key, dim=1), self.progress.step)
        return {"loss": loss}

    def after_step(self) -> None:
        """Update the key encoder (eq. 2)."""
        self.averaged.update(self.network, decay=self.settings.ema_decay)

    def loss_at_chance(self) -> dict[str, float]:
        """The key and all Q keys of the queue are the same: ln(Q + 1)."""
        return {"loss": log(len(self.queue.rows) + 1)}
