"""SwAV (Caron et al. 2020, arXiv:2006.09882): predict the prototype assignment of one view from another view."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import Count, CountOrZero, NonNegative, Positive, TwoOrMore
from sslpipe.methods._sinkhorn import SinkhornAssignment
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.nets.heads import PrototypeHead, PrototypeSettings
from sslpipe.nets.passes import BatchStatistics, forward_groups
from sslpipe.objectives.swav import swapped_prediction
from sslpipe.views.multi_crop import GLOBAL_VIEWS, MultiCropSettings


@dataclass(frozen=True, kw_only=True)
class Settings(MultiCropSettings):
    """Defaults: SwAV's for ImageNet with batches of 256 images (section 4 and public code)."""

    prototypes: TwoOrMore = 3000
    """Number of prototypes that the images are assigned to. More: finer distinctions between images, slower."""
    hidden: Count = 2048
    """Width of the projection's hidden layer. Larger: more capacity of the head, slower."""
    outputs: Count = 128
    """Length of an embedding. Larger: room for more differences between images, slower."""
    temperature: Positive = 0.1
    """τ of eq. 2, which divides the predictions' scores. Larger: less certain predictions."""
    epsilon: Positive = 0.05
    """ε of eq. 3, the weight of the assignments' entropy. Larger: softer assignments; too large ones make all images
    alike."""
    iterations: Count = 3
    """Sinkhorn-Knopp iterations. More: prototypes of more equal shares, slower."""
    queue: CountOrZero = 3840
    """Embeddings of earlier batches that are assigned along with the batch's, for each global view. More: assignments
    over more images, as small batches need them, but by older features."""
    queue_from_epoch: NonNegative = 15.0
    """Epoch from which on the queue is used; before, its embeddings are outdated too fast. Larger: features that have
    settled more are in the queue."""
    frozen_epochs: NonNegative = 1.0
    """First epochs in which the prototypes are frozen. More: a steadier start, in which the prototypes learn
    nothing."""
    batch_statistics: BatchStatistics = "joint"
    """joint: views of one size share a forward pass, and the projection's batch norms see all views (public code).
    separate: each view is normalised alone."""
    fit: FitSettings = FitSettings(
        epochs=200,
        batch=256,
        optimizer=OptimizerSettings(name="lars", lr=0.6, momentum=0.9, weight_decay=1e-6, scale_all=True),
        schedule=ScheduleSettings(name="cosine", final=1e-3),
    )


class Method(SelfSupervised):
    """SwAV, algorithm 1, with multi-crop."""

    collapse_hint = "lower pretrain.swav.epsilon, raise frozen_epochs or the schedule's warmup_epochs"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.global_views)
        self.settings = settings
        self.network.head = PrototypeHead(
            self.network.backbone.dimension,
            PrototypeSettings(
                prototypes=settings.prototypes,
                hidden=settings.hidden,
                outputs=settings.outputs,
                temperature=settings.temperature,
            ),
        )
        self.crops = self.multi_crop(settings)
        self.assignment = SinkhornAssignment(
            queue=settings.queue,
            outputs=settings.outputs,
            epsilon=settings.epsilon,
            iterations=settings.iterations,
        )

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Sequence[Tensor]:
        """Global and local views, first the global ones."""
        return self.crops(batch.image, generator)

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Every view predicts the assignments of the other global views (eq. 6)."""
        head, count = self.network.head, len(batch)
        assert isinstance(head, PrototypeHead)
        head.prototypes.requires_grad_(self.progress.epochs >= self.settings.frozen_epochs)
        statistics = self.settings.batch_statistics
        features = self.network.features_of(views, statistics)
        embeddings = torch.cat(forward_groups(head.embed, features, statistics)).float()
        logits = torch.split(head.scores(embeddings) / self.settings.temperature, count)
        targets = self.assignment(
            head,
            embeddings.detach()[: GLOBAL_VIEWS * count].view(GLOBAL_VIEWS, count, -1),
            step=self.progress.step,
            use_queue=self.progress.epochs >= self.settings.queue_from_epoch,
        )
        loss = swapped_prediction(targets, logits)
        return {"loss": loss, "largest_share": targets.mean(dim=(0, 1)).max()}

    def loss_at_chance(self) -> dict[str, float]:
        """All K prototypes are equally likely: ln K."""
        return {"loss": log(self.settings.prototypes)}
