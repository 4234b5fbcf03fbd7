"""SCAN's self-labelling step (Van Gansbeke et al. 2020, section 2.3): learn from one's own confident answers."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.data.images import Images
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.method import Method
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.io.console import say
from sslpipe.io.settings import Count, Fraction
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.network import Network
from sslpipe.objectives.self_label import confident_cross_entropy
from sslpipe.views.policies import Views, ViewSettings, plain


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the SCAN paper, section 3.1."""

    threshold: Fraction = 0.99
    balance: bool = True
    """Weigh each class by the inverse of its count among the confident images of the batch."""
    targets: Literal["model", "averaged"] = "model"
    """Who gives the answers: the model itself in eval mode, or the average of its weights, which is then kept."""
    decay: Fraction = 0.999
    """Of the averaged weights (public code, ImageNet)."""
    patience: Count = 10
    """Epochs without a rise of the confident count after which the run ends (section 3.1: its plateau)."""
    rise: Fraction = 0.001
    """What counts as a rise, as a share of the images (own choice: a tenth of a percent)."""
    views: ViewSettings = ViewSettings(policy="strong")
    fit: FitSettings = FitSettings(
        epochs=100,
        batch=1000,
        optimizer=OptimizerSettings(name="adam", lr=1e-4, weight_decay=1e-4, decay_all=True),
    )


class SelfLabelling(Method):
    """Algorithm 1, lines 9 to 12."""

    best_confident: Tensor
    stale_epochs: Tensor
    learned: Tensor

    def __init__(self, settings: Settings, network: Network, images: Images) -> None:
        """network: with one cluster head, as the cluster stage leaves it."""
        super().__init__()
        self.settings = settings
        self.network = network
        self.averaged = AveragedWeights(network) if settings.targets == "averaged" else None
        self.views = Views(settings.views, network.image_mean)
        self._start = [copy.deepcopy(network)]  # in a list, so that it is none of this method's own weights
        self.register_buffer("best_confident", torch.tensor(0.0))
        self.register_buffer("stale_epochs", torch.tensor(0))
        self.register_buffer("learned", torch.tensor(False))

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Hard answers on the plain images, cross-entropy on strong views."""
        with torch.no_grad():
            teacher = self.network.eval() if self.averaged is None else self.averaged.module
            target_logits = teacher(plain(batch.image))
            self.network.train()
        terms = confident_cross_entropy(
            target_logits,
            self.network(self.views(batch.image, generator)),
            threshold=self.settings.threshold,
            balance=self.settings.balance,
        )
        return {
            "loss": terms["loss"],
            "confident": terms["confident"] / len(batch.image),
            "skipped": (terms["confident"] == 0).float(),
        }

    def after_step(self) -> None:
        """Let the average follow."""
        if self.averaged is not None:
            self.averaged.update(self.network, decay=self.settings.decay)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """End the run when the confident count no longer rises, or where no image is confident from the first."""
        if terms["confident"] == 0:
            say(
                "self_label: no image was confident in a whole epoch, the groups stay as they are; "
                f"lower self_label.threshold ({self.settings.threshold}) or train cluster for longer"
            )
            self.finished = True
            return {}
        self.learned.fill_(True)
        if terms["confident"] > self.best_confident + self.settings.rise:
            self.best_confident.fill_(terms["confident"])
            self.stale_epochs.zero_()
        else:
            self.stale_epochs += 1
        self.finished = bool(self.stale_epochs >= self.settings.patience)
        return {}

    def selected(self) -> Network:
        """The network to keep: the start's, with its very weights, where nothing could be learned."""
        if not self.learned:
            return self._start[0]
        return self.network if self.averaged is None else self.averaged.module
