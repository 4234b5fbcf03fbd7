"""Base class of the methods with few labels: a classifier, its averaged weights, and cross-entropy on the labels."""

from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.batches import Needs, Pair
from sslpipe.data.held_out import HeldOut
from sslpipe.data.labelled import LabelledImages
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.console import info
from sslpipe.io.settings import BelowOne, TwoOrMore
from sslpipe.methods.semisup._logistic import fit_classifier
from sslpipe.nets.averaged import AveragedWeights, warm_decay
from sslpipe.nets.heads import Head, LinearHead, LinearSettings, outputs
from sslpipe.nets.inference import head_logits, infer
from sslpipe.nets.lora import merged, plain_name
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.nets.network import Network
from sslpipe.nets.tuning import TuningSettings, learning_rates, tune
from sslpipe.objectives.supervised import cross_entropy
from sslpipe.views.policies import Views, ViewSettings

HeadInit = Literal["random", "logistic"]


@dataclass(frozen=True)
class Problem:
    """What a method with few labels is given."""

    network: Network
    """The network to train, with the weights that it starts from. Its head is a classifier whose outputs are the
    classes in order, a projection, or none."""
    labelled: LabelledImages
    """The labelled images; `labelled.images` are all training images, the labelled ones included."""
    held_out: HeldOut | None = None
    """Images for the history's monitors."""
    monitors: LinearMonitors | None = None
    """The start's classifiers on its layers, if it has any for the same classes."""
    features: NDArray[np.float16] | None = None
    """[N, D], stored features of all training images by the network's backbone, which may lie in a file; given, as are
    the following ones, to a method whose Settings say `reads_features`, and alone, if there are any, to one whose
    Settings say `prefers_features`."""
    held_out_features: NDArray[np.float16] | None = None
    """[M, D], those of the held-out images."""
    neighbors: NDArray[np.int64] | None = None
    """[N, k], the mined neighbours of each training image, the nearest first."""
    similarities: NDArray[np.float32] | None = None
    """[N, k], their cosines."""

    def stored_held_out_acc(self) -> dict[str, float]:
        """The network's accuracy on the held-out images by their stored features; empty without labels or features."""
        if self.held_out is None or not self.held_out.has_labels or self.held_out_features is None:
            return {}
        logits = head_logits(self.network, self.held_out_features)
        return {"monitor/held_out_acc": self.held_out.accuracy(logits)}


@dataclass(frozen=True, kw_only=True)
class LabelledSettings:
    """Settings that every method with few labels has.

    Defaults: FixMatch's for CIFAR-10 (arXiv:2001.07685, section 4 and table 4).
    """

    labelled_batch: TwoOrMore = 64
    """Labelled images in a step; they are drawn again and again. At least 2, since batch norm compares images. Larger:
    less noise in a step, more time and memory."""
    views: ViewSettings = ViewSettings(policy="weak")
    """Views of the labelled images."""
    label_smoothing: BelowOne = 0.0
    """Share of each label's probability that is spread over all classes. Larger: less certain predictions, less trust
    in each label."""
    head_init: HeadInit = "random"
    """Start values of the layer to the classes, if the start has none: random (all the papers), or the logistic
    regression of the labelled images' features. A random layer distorts pretrained features in the first steps (Kumar
    et al. 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution")."""
    backbone: TuningSettings = TuningSettings()
    """Which weights of the backbone are trained, and at which learning rates."""
    ema_decay: BelowOne | None = 0.999
    """Decay of the averaged weights, which are kept; null: the weights at the end are kept. Larger: an average over
    more steps, about 1 / (1 - ema_decay), which follows more slowly."""
    fit: FitSettings = FitSettings(
        epochs=9450,
        batch=448,
        optimizer=OptimizerSettings(name="sgd", lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSettings(name="cosine_7_16"),
    )
    """An epoch is a pass over all training images in batches of fit.batch; 9450 epochs of CIFAR-10 are 2^20 steps."""


class LabelledMethod(BaseMethod):
    """Cross-entropy on weak views of the labelled images; methods that use unlabelled images override
    `draw_views` and `losses`.
    """

    collapse_hint = "lower the learning rate or train for longer"

    def __init__(self, settings: LabelledSettings, problem: Problem, head: Head | None = None) -> None:
        """head: replaces the network's head; None: a classifier is added, unless the start has one."""
        super().__init__()
        self.settings = settings
        self.network = problem.network
        self.labelled = problem.labelled
        # The terms of unlabelled images rise as more of these are used; a good start may leave nothing to learn.
        term = "labelled" if self.learns_unlabelled else "loss"
        self.falling = {term: log(problem.labelled.classes)}
        self.held_out = problem.held_out if problem.held_out and problem.held_out.has_labels else None
        if head is not None:
            self.network.head = head
        else:
            add_classifier(self.network, problem.labelled, settings.head_init)
        self.views = self.policy(settings.views)
        self._rates = learning_rates(self.network.backbone, settings.backbone)
        if trained := tune(self.network, settings.backbone):
            info(f"{type(self).__module__.rpartition('.')[2]}: {trained}")
        self.averaged: AveragedWeights[Network] | None = None
        if settings.ema_decay is not None:
            self.averaged = AveragedWeights(self.network, own_statistics=self.averaged_by_batch)

    @property
    def averaged_by_batch(self) -> bool:
        """Whether the averaged network's batch norms have statistics of their own, those of its batches."""
        return False

    def policy(self, settings: ViewSettings) -> Views:
        """Views whose Cutout fills with the images' mean."""
        return Views(settings, self.network.image_mean, side=self.network.side, resize=self.network.resize)

    def draw_views(self, batch: Pair, generator: torch.Generator) -> Any:
        """A view of each labelled image."""
        return self.views(batch.labelled.image, generator)

    def losses(self, batch: Pair, views: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """The cross-entropy of the labelled images; the unlabelled ones are not used."""
        logits = self.network(views)
        return {"loss": cross_entropy(logits, batch.labelled.label, smoothing=self.settings.label_smoothing)}

    def needs(self) -> Needs:
        """Unlabelled images in every step, or in none."""
        return Needs(images=lambda step: self.learns_unlabelled)

    @property
    def learns_unlabelled(self) -> bool:
        """Whether the method learns from unlabelled images, as those do that override `losses`."""
        return type(self).losses is not LabelledMethod.losses

    def chance_loss(self) -> float | None:
        """All C classes are equally likely, with or without label smoothing: ln C."""
        return log(self.labelled.classes)

    def after_step(self) -> None:
        """Update the averaged weights."""
        if self.averaged is not None:
            self.averaged.update(self.network, decay=self.current_ema_decay())

    def current_ema_decay(self) -> float:
        """The decay of the averaged weights in this step."""
        assert self.settings.ema_decay is not None
        return warm_decay(self.progress.step, decay=self.settings.ema_decay)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Accuracy on the held-out images with known labels; a monitor that selects nothing.

        At the end of the run a line says if no unlabelled image is confident, so that only labels are learned.
        """
        if terms.get("confident") == 0 and self.progress.step == self.progress.total:
            name = type(self).__module__.rpartition(".")[2]
            info(
                f"semisup.{name}: no unlabelled image is confident at the end; lower the threshold or train for longer"
            )
        if self.held_out is None:
            return {}
        logits = infer(self.selected().eval(), self.held_out.images)
        return {"monitor/held_out_acc": self.held_out.accuracy(logits)}

    def rate(self, name: str) -> float:
        """The factor on the learning rate: lower in each block of the backbone before another with `layer_decay`."""
        return self._rates.get(plain_name(name).removeprefix("network.backbone."), 1.0)

    @property
    def keeps_student(self) -> bool:
        """Whether the trained network is kept, not the averaged one."""
        return False

    def selected(self) -> Network:
        """The network to keep, with its low-rank updates added to its weights."""
        if self.averaged is None or self.keeps_student:
            return merged(self.network)
        return merged(self.averaged.module)


def add_classifier(network: Network, labelled: LabelledImages, init: HeadInit) -> None:
    """Give the network a linear layer to the classes, unless it has one; init: see `LabelledSettings.head_init`."""
    if outputs(network.head) == labelled.classes:
        return
    layer = LinearHead(network.backbone.dimension, LinearSettings(outputs=labelled.classes))
    network.head = layer.to(network.mean.device)
    if init == "logistic":
        fit_classifier(network.head, network, labelled)
