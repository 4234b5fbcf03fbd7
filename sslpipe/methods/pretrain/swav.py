"""SwAV (Caron et al. 2020): the prototypes that one view of an image is assigned to are predicted from another."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine import world
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.settings import Count, CountOrZero, NonNegative, Positive
from sslpipe.methods.pretext.crops import GLOBAL_CROPS, CropSettings, MultiCrop
from sslpipe.methods.pretext.task import SelfSupervised, Task
from sslpipe.nets.heads import PrototypeHead, PrototypeSettings
from sslpipe.nets.queue import EmbeddingQueue
from sslpipe.objectives.swav import sinkhorn, swapped_prediction


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: SwAV's of 256 images a batch, ImageNet (section 4; recipes.md, 6.4)."""

    prototypes: Count = 3000
    hidden: Count = 2048
    """Width of the projection's hidden layer."""
    outputs: Count = 128
    """Length of an embedding."""
    temperature: Positive = 0.1
    """τ of eq. 2."""
    epsilon: Positive = 0.05
    """ε of eq. 3."""
    iterations: Count = 3
    """Of Sinkhorn and Knopp."""
    queue: CountOrZero = 3840
    """Embeddings of earlier batches that are assigned along, for each large crop."""
    queue_from_epoch: NonNegative = 15.0
    """From which on they are; before, assignments of embeddings that change fast would be of no use."""
    frozen_epochs: NonNegative = 1.0
    """First epochs in which the prototypes stay where they were drawn."""
    crops: CropSettings = CropSettings()
    fit: FitSettings = FitSettings(
        epochs=200,
        batch=256,
        optimizer=OptimizerSettings(name="lars", lr=0.6, momentum=0.9, weight_decay=1e-6),
        schedule=ScheduleSettings(name="cosine", final=1e-3),
    )


class Pretext(SelfSupervised):
    """SwAV, algorithm 1, with multi-crop."""

    remedy = "lower pretrain.swav.epsilon, raise frozen_epochs or the schedule's warmup_epochs"

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(task, settings.crops.large)
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
        self.crops = MultiCrop(settings.crops, self.policy)
        self.queue = EmbeddingQueue(settings.queue, GLOBAL_CROPS, settings.outputs)

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Every crop predicts the assignments of the other large crops (eq. 6)."""
        head, count = self.network.head, len(batch.image)
        assert isinstance(head, PrototypeHead)
        head.prototypes.requires_grad_(self.progress.epochs >= self.settings.frozen_epochs)
        crops = self.crops(batch.image, generator)
        embeddings = head.embed(torch.cat(self.network.features_of(crops))).float()
        logits = torch.split(head.scores(embeddings) / self.settings.temperature, count)
        targets = self._assign(head, embeddings.detach()[: GLOBAL_CROPS * count].view(GLOBAL_CROPS, count, -1))
        loss = swapped_prediction(targets, logits)
        return {"loss": loss, "largest_share": targets.mean(dim=(0, 1)).max()}

    @torch.no_grad()
    def _assign(self, head: PrototypeHead, embeddings: Tensor) -> Tensor:
        """[G, B, K] assignments of the large crops' embeddings [G, B, D], each along with its queue (eq. 3 to 5)."""
        everyone, step = world.gather(embeddings.transpose(0, 1)), self.progress.step
        in_use = self.queue.is_full(step, len(everyone)) and self.progress.epochs >= self.settings.queue_from_epoch
        context = torch.cat([self.queue.rows, everyone]) if in_use else everyone
        self.queue.push(everyone, step)
        scores = head.scores(context.transpose(0, 1))
        assignment = sinkhorn(scores, epsilon=self.settings.epsilon, iterations=self.settings.iterations)
        return assignment[:, -len(everyone) :].chunk(world.size(), dim=1)[world.rank()]

    def chance(self) -> dict[str, float]:
        """Prototypes alike."""
        return {"loss": log(self.settings.prototypes)}
