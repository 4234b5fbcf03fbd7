"""Suave (Fini et al. 2023, arXiv:2306.07483): SwAV with one prototype for each class."""

from dataclasses import dataclass

from torch import Tensor

from sslpipe.engine.schedules import half_cosine
from sslpipe.io.errors import UserError
from sslpipe.io.settings import BelowOne, Count, CountOrZero, Fraction, Positive
from sslpipe.methods._sinkhorn import SinkhornAssignment
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._prototypes import PrototypeMethod, PrototypesSettings
from sslpipe.nets.heads import PrototypeHead


@dataclass(frozen=True, kw_only=True)
class SuaveSettings(PrototypesSettings):
    """Settings of training and of fine-tuning. Defaults: section A.1."""

    epsilon: Positive = 0.05
    """ε of eq. 5, the weight of the assignments' entropy. Larger: softer assignments of images to classes."""
    iterations: Count = 3
    """Sinkhorn-Knopp iterations. More: classes of more equal shares among the targets, slower."""
    queue: CountOrZero = 3840
    """Embeddings of earlier batches that are assigned along with the batch's, for each global view, once the queue is
    full. More: assignments over more images, as many classes and small batches need them, but by older features."""
    momentum_encoder: bool = False
    """The averaged network gives the embeddings that are assigned (CIFAR-100: with ema_decay 0.99); true: steadier
    targets, slower."""
    ema_decay: BelowOne | None = None
    final_ema_decay: Fraction | None = None
    """The momentum encoder's ema_decay at the end, to which it rises on half a cosine (public code: 1); null: it stays
    as it is. Larger: a teacher that changes more slowly towards the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum_encoder and self.ema_decay is None:
            raise UserError("momentum_encoder: needs ema_decay, such as 0.99")
        if self.final_ema_decay is not None and not self.momentum_encoder:
            raise UserError(f"final_ema_decay: {self.final_ema_decay:g} found, expected null without momentum_encoder")


class SuaveMethod(PrototypeMethod):
    """δ is an optimal transport that assigns to every class its share of the batch (eq. 4 to 6)."""

    settings: SuaveSettings

    def __init__(self, settings: SuaveSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.assignment = SinkhornAssignment(
            queue=settings.queue,
            outputs=settings.outputs,
            epsilon=settings.epsilon,
            iterations=settings.iterations,
        )

    def assign(self, views: Tensor, embeddings: Tensor) -> Tensor:
        """Sinkhorn-Knopp on the scores of each global view, with the queue's scores (eq. 5)."""
        network = self.network
        if self.settings.momentum_encoder:
            assert self.averaged is not None
            network = self.averaged.module
            assert isinstance(network.head, PrototypeHead)
            embeddings = network.head.embed(network.features(views.flatten(0, 1))).float().view_as(embeddings)
        assert isinstance(network.head, PrototypeHead)
        return self.assignment(network.head, embeddings, step=self.progress.step)  # type: ignore[no-any-return]

    @property
    def has_teacher(self) -> bool:
        """Whether there is a momentum encoder."""
        return self.settings.momentum_encoder

    def current_ema_decay(self) -> float:
        """The decay without a warm-up for a momentum encoder, which starts as the network itself."""
        begin, end = self.settings.ema_decay, self.settings.final_ema_decay
        assert begin is not None
        if not self.settings.momentum_encoder:
            return super().current_ema_decay()
        return begin if end is None else half_cosine(begin, end, self.progress.fraction)
