"""Labels alone: the baseline, and what every other learner with few labels adds to."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sslpipe.data.labelled import Pair
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.method import Method
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.settings import Count, Fraction
from sslpipe.methods.parts.logistic import DEFAULT_PENALTY, labelled_features, regress, set_classifier
from sslpipe.methods.parts.task import Task
from sslpipe.nets.averaged import AveragedWeights, warm_decay
from sslpipe.nets.heads import LinearHead, LinearSettings, outputs
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy
from sslpipe.views.policies import Views, ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the FixMatch paper's for CIFAR-10 (section 4, table 4), which the other methods take over."""

    labelled_batch: Count = 64
    """Labelled images a step, drawn again and again."""
    views: ViewSettings = ViewSettings(policy="weak")
    """Of labelled images."""
    label_smoothing: Fraction = 0.0
    head: Literal["drawn", "fitted"] = "drawn"
    """Where the layer to the classes begins, if the start has none: at random (all the papers), or fitted to the
    labelled images' features before anything moves. A random one drags a pretrained backbone away from what it knows
    (Kumar et al. 2022, "Fine-tuning can distort pretrained features")."""
    decay: Fraction | None = 0.999
    """Of the averaged weights, which are kept; null: the weights as they are at the end."""
    fit: FitSettings = FitSettings(
        epochs=9450,
        batch=448,
        optimizer=OptimizerSettings(name="sgd", lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSettings(name="cosine_7_16"),
    )
    """An epoch is a pass over all training images, in batches of fit.batch; these are CIFAR-10's 2^20 steps."""


class Learner(Method):
    """Cross-entropy on weak views of the labelled images."""

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__()
        self.settings = settings
        self.network = task.network
        self.labelled = task.labelled
        self.watch = task.watch if task.watch and task.watch.sees else None
        self.add_head(task)
        self.views = self.policy(settings.views)
        self.averaged = AveragedWeights(self.network) if settings.decay is not None else None

    def add_head(self, task: Task) -> None:
        """Put the head on the network that the method learns with."""
        if add_classifier(task.network, task.labelled.classes) and self.settings.head == "fitted":
            fit_classifier(task.network.head, task)

    def policy(self, settings: ViewSettings) -> Views:
        """Views whose Cutout fills in the images' mean."""
        return Views(settings, self.network.image_mean)

    def losses(self, batch: Pair, generator: torch.Generator) -> dict[str, Tensor]:
        """The labelled images alone."""
        logits = self.network(self.views(batch.labelled.image, generator))
        return {"loss": cross_entropy(logits, batch.labelled.label, smoothing=self.settings.label_smoothing)}

    def after_step(self) -> None:
        """Let the average follow."""
        if self.averaged is not None:
            self.averaged.update(self.network, decay=self.current_decay())

    def current_decay(self) -> float:
        """The average's decay for this step."""
        assert self.settings.decay is not None
        return warm_decay(self.progress.step, decay=self.settings.decay)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Accuracy on held-out images, where their labels are known; it decides nothing."""
        return {"monitor/held_out_acc": self.watch.accuracy_of(self.selected())} if self.watch else {}

    def selected(self) -> Network:
        """The network to keep."""
        return self.network if self.averaged is None else self.averaged.module


def add_classifier(network: Network, classes: int) -> bool:
    """Give the network a linear layer to the classes, unless its start knows them; returns whether it was needed."""
    if outputs(network.head) == classes:
        return False
    network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=classes)).to(network.mean.device)
    return True


def fit_classifier(layer: nn.Module, task: Task) -> None:
    """Set a linear layer on the backbone to the logistic regression of the labelled images."""
    assert isinstance(layer, nn.Linear)
    set_classifier(layer, *regress(*labelled_features(task.network, task.labelled), DEFAULT_PENALTY, 200))
