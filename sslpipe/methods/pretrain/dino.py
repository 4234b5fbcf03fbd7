"""DINO (Caron et al. 2021, arXiv:2104.14294): a student learns the centred, sharpened outputs of its average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from typing import Any, Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Multipliers
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings, half_cosine, linear
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import BelowOne, Count, CountOrZero, Fraction, NonNegative, Positive, TwoOrMore
from sslpipe.methods.pretrain._base import Problem, SelfSupervised
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.heads import Activation, PrototypeHead, PrototypeSettings
from sslpipe.nets.network import Network
from sslpipe.nets.passes import BatchStatistics, forward_groups
from sslpipe.objectives.dino import distill_crops, moved_center
from sslpipe.views.multi_crop import DINO_SECOND, DINO_VIEWS, GLOBAL_VIEWS, MultiCropSettings
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(MultiCropSettings):
    """Defaults: DINO's public code for 100 epochs of ImageNet with ViT-S/16."""

    prototypes: TwoOrMore = 65_536
    """K, the number of outputs. More: finer distinctions between images, more memory."""
    hidden: Count = 2048
    """Width of the projection's hidden layers. Larger: more capacity of the head, slower."""
    outputs: Count = 256
    """Length of the embedding before the last layer, whose rows have length 1 (weight norm). Larger: room for more
    differences between images, slower."""
    depth: Count = 3
    """Layers of the projection. More: the head takes over more of the task, so the features stay more general;
    slower."""
    batch_norm: bool = False
    """Whether the head's hidden layers have a batch norm."""
    activation: Activation = "gelu"
    """Activation of the head's hidden layers."""
    student_temperature: Positive = 0.1
    """Temperature of the student's outputs (DINO, arXiv:2104.14294). Larger: less certain outputs."""
    teacher_temperature: tuple[Positive, Positive] = (0.04, 0.04)
    """Temperature at the start and from epoch `teacher_temperature_epochs` on; linear in between (longer runs: 0.04 to
    0.07 in 30 epochs). Larger: less certain targets; above 0.07 training is unstable (public code)."""
    teacher_temperature_epochs: NonNegative = 0.0
    """Epochs in which the teacher's temperature goes from its first value to its last. Larger: a slower change."""
    ema_decay: BelowOne = 0.996
    """Decay of the teacher's weights at the start; it rises to 1 on half a cosine. Larger: a teacher that changes more
    slowly and steadily."""
    center_momentum: Fraction = 0.9
    """Decay rate of the centre that is taken off the teacher's outputs. Larger: it follows the outputs more slowly."""
    frozen_epochs: NonNegative = 1.0
    """First epochs in which the last layer is frozen. More: a steadier start, in which the last layer learns
    nothing."""
    final_weight_decay: NonNegative = 10.0
    """Factor on the weight decay at the end; it rises from 1 on half a cosine (0.04 to 0.4). Larger: stronger
    regularisation towards the end."""
    keep: Literal["teacher", "student"] = "teacher"
    """Network to keep. The teacher is better (section 5.2); Daino's public code starts from the student."""
    global_views: ViewSettings = replace(DINO_VIEWS, crop_scale=(0.4, 1.0), blur=1.0)
    second_global_views: Mapping[str, Any] = field(default_factory=lambda: dict(DINO_SECOND))
    local_views: ViewSettings = replace(DINO_VIEWS, crop_scale=(0.05, 0.4))
    local_crops: CountOrZero = 8
    """Number of small local views of each image (SwAV, arXiv:2006.09882). More: better features after as many epochs,
    each of which takes more time and memory."""
    batch_statistics: BatchStatistics = "joint"
    """joint: views of one size share a forward pass, and the projection's batch norms see all views (public code).
    separate: each view is normalised alone, by the student and by the teacher."""
    fit: FitSettings = FitSettings(
        epochs=100,
        batch=1024,
        # 5e-4 for each 256 images.
        optimizer=OptimizerSettings(name="adamw", lr=2e-3, weight_decay=0.04),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=10, final=5e-4),
        clip=3.0,
        clip_by="tensor",
    )


class Method(SelfSupervised):
    """DINO, algorithm 1, with multi-crop. The teacher's batch norms use their own statistics, as in the public code."""

    falling: Mapping[str, float] = {}
    """The loss rises while the teacher, which begins undecided, learns to tell images apart."""
    collapse_hint = "raise pretrain.dino.ema_decay, lower teacher_temperature, freeze the last layer for longer"

    center: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(problem, settings.global_views)
        self.settings = settings
        self.network.head = PrototypeHead(
            self.network.backbone.dimension,
            PrototypeSettings(
                prototypes=settings.prototypes,
                hidden=settings.hidden,
                outputs=settings.outputs,
                depth=settings.depth,
                batch_norm=settings.batch_norm,
                activation=settings.activation,
                temperature=settings.student_temperature,
            ),
        )
        self.crops = self.multi_crop(settings)
        self.teacher = AveragedWeights(self.network, own_statistics=True)
        self.register_buffer("center", torch.zeros(settings.prototypes))

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Sequence[Tensor]:
        """Global and local views, first the global ones."""
        return self.crops(batch.image, generator)

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The student gets all views, the teacher the global ones."""
        head, settings = self.network.head, self.settings
        assert isinstance(head, PrototypeHead)
        head.prototypes.requires_grad_(self.progress.epochs >= settings.frozen_epochs)
        scores = self._scores(self.network, views)
        with torch.no_grad():
            teacher_scores = self._scores(self.teacher.module, views[:GLOBAL_VIEWS]).float()
        loss = distill_crops(
            torch.split(scores, len(batch)),
            teacher_scores.view(GLOBAL_VIEWS, len(batch), -1),
            self.center,
            student_temperature=settings.student_temperature,
            teacher_temperature=self.teacher_temperature(),
        )
        self.center.copy_(moved_center(self.center, teacher_scores, momentum=settings.center_momentum))
        return {"loss": loss}

    def _scores(self, network: Network, crops: Sequence[Tensor]) -> Tensor:
        """Scores of all crops, one after the other; network: student or teacher."""
        head, statistics = network.head, self.settings.batch_statistics
        assert isinstance(head, PrototypeHead)
        features = network.features_of(crops, statistics)
        return head.scores(torch.cat(forward_groups(head.embed, features, statistics)))

    def teacher_temperature(self) -> float:
        """The teacher's temperature in this step."""
        epochs = self.settings.teacher_temperature_epochs
        return linear(*self.settings.teacher_temperature, self.progress.epochs / epochs if epochs else 1.0)

    def multipliers(self) -> Multipliers:
        """Raise the weight decay."""
        return Multipliers(weight_decay=half_cosine(1.0, self.settings.final_weight_decay, self.progress.fraction))

    def after_step(self) -> None:
        """Update the teacher."""
        self.teacher.update(self.network, decay=half_cosine(self.settings.ema_decay, 1.0, self.progress.fraction))

    def selected(self) -> Network:
        """The network to keep."""
        return self.teacher.module if self.settings.keep == "teacher" else self.network

    def loss_at_chance(self) -> dict[str, float]:
        """All K prototypes are equally likely: ln K."""
        return {"loss": log(self.settings.prototypes)}
