"""SCAN's self-labelling step (Van Gansbeke et al. 2020, arXiv:2005.12320, section 2.3)."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.engine.method import BaseMethod, not_finite
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.console import info
from sslpipe.io.settings import BelowOne, Count, Fraction
from sslpipe.methods.self_label._problem import Problem
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.heads import outputs
from sslpipe.nets.network import Network
from sslpipe.nets.statistics import recompute_statistics
from sslpipe.nets.tuning import KEPT, Statistics, keep_statistics
from sslpipe.objectives.self_label import confident_cross_entropy
from sslpipe.views.policies import Views, ViewSettings, plain


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the SCAN paper, section 3.1."""

    threshold: Fraction = 0.99
    """Confidence from which a pseudo-label is learned. Larger: fewer pseudo-labels, more of them right."""
    balance: bool = True
    """Weight each class by the inverse of its count among the confident images of the batch; false: large classes count
    more."""
    targets: Literal["model", "averaged"] = "model"
    """Network that gives the pseudo-labels: the model, or its averaged weights, which are then kept."""
    target_statistics: Literal["batch", "running"] = "batch"
    """Batch-norm statistics that normalise the images for the pseudo-labels. batch: their own, which also update the
    running ones (public code). running: the running ones, which the strong views alone update."""
    final_statistics: Literal["plain", "training"] = "plain"
    """Batch-norm statistics of the finished model. plain: of all training images without augmentation, computed once
    more, since the model is used on such images (own choice). training: the running ones (public code)."""
    statistics: Statistics | None = None
    """What the backbone's batch norms normalise by: batch as the settings above say, or the running statistics of the
    start, which stay in all three places. null: start for a published network, whose features batches distort
    (docs/few-labels.md), batch for others."""
    ema_decay: BelowOne = 0.999
    """Decay of the averaged weights (public code, ImageNet). Larger: weights averaged over more steps, which follow
    more slowly."""
    patience: Count = 10
    """Epochs without an increase of the confident share after which the run ends (section 3.1: its plateau). More: a
    longer run."""
    min_delta: Fraction = 0.001
    """Least increase of the confident share that counts (own choice: a tenth of a percent). Larger: an earlier end of
    the run."""
    views: ViewSettings = ViewSettings(policy="strong")
    fit: FitSettings = FitSettings(
        epochs=100,
        batch=1000,
        optimizer=OptimizerSettings(name="adam", lr=1e-4, weight_decay=1e-4, decay_all=True),
    )


class Method(BaseMethod):
    """SCAN, algorithm 1, lines 9 to 12: self-training on confident pseudo-labels."""

    falling: Mapping[str, float] = {}
    """The loss rises where images that are harder become confident; the confident share is what has to rise."""
    collapse_hint = "lower self_label.confident.fit.optimizer.lr or set self_label.confident.balance: true"

    best_confident: Tensor
    stale_epochs: Tensor
    learned: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        self.settings = settings
        self.network = network = problem.network
        self.images = problem.images
        self._keeps_statistics = keep_statistics(network, settings.statistics)
        if self._keeps_statistics:
            info(f"self_label.confident: {KEPT} (self_label.confident.statistics)")
        self.averaged: AveragedWeights[Network] | None = None
        if settings.targets == "averaged":
            self.averaged = AveragedWeights(network, own_statistics=settings.target_statistics == "batch")
        self.views = Views(settings.views, network.image_mean, side=network.side, resize=network.resize)
        self._start = [copy.deepcopy(network)]  # in a list, so that it is none of this method's own weights
        self.register_buffer("best_confident", torch.tensor(0.0))
        self.register_buffer("stale_epochs", torch.tensor(0))
        self.register_buffer("learned", torch.tensor(False))

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Sequence[Tensor]:
        """The images without augmentation, and a strong view of each."""
        return plain(batch.image), self.views(batch.image, generator)

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Pseudo-labels of the images without augmentation, and the cross-entropy of strong views."""
        images, strong = views
        self.network.train(self.settings.target_statistics == "batch")
        with torch.no_grad():
            teacher = self.network if self.averaged is None else self.averaged.module
            target_logits = teacher(images)
        self.network.train()
        terms = confident_cross_entropy(
            target_logits,
            self.network(strong),
            threshold=self.settings.threshold,
            balance=self.settings.balance,
        )
        return {
            "loss": terms["loss"],
            "confident": terms["confident"] / len(batch),
            "skipped": (terms["confident"] == 0).float(),
        }

    def chance_loss(self) -> float | None:
        """All C clusters are equally likely for the strong views, whatever the pseudo-labels are: ln C."""
        clusters = outputs(self.network.head)
        return None if clusters is None else log(clusters)

    def after_step(self) -> None:
        """Update the averaged weights."""
        if self.averaged is not None:
            self.averaged.update(self.network, decay=self.settings.ema_decay)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """End the run when the confident share no longer increases, or if no image is confident in an epoch."""
        if terms["confident"] == 0:
            # A network that is broken is confident of nothing either; the stage refuses it.
            if not not_finite(self.state_dict()):
                kept = "the model stays as it is" if self.learned else "the clusters stay as they are"
                info(
                    f"self_label: no image was confident in a whole epoch, {kept}; "
                    f"lower self_label.confident.threshold ({self.settings.threshold}) or train cluster for longer"
                )
            self.finished = True
            return {}
        self.learned.fill_(True)
        if terms["confident"] > self.best_confident + self.settings.min_delta:
            self.best_confident.fill_(terms["confident"])
            self.stale_epochs.zero_()
        else:
            self.stale_epochs += 1
        self.finished = bool(self.stale_epochs >= self.settings.patience)
        return {}

    def watched(self) -> Network:
        """The network to keep if the run ended now, with the statistics that it has."""
        return self.network if self.averaged is None else self.averaged.module

    def selected(self) -> Network:
        """The network to keep; the start itself, with unchanged weights, if nothing could be learned."""
        if not self.learned:
            return self._start[0]
        network = self.network if self.averaged is None else self.averaged.module
        if self.settings.final_statistics == "plain" and not self._keeps_statistics:
            recompute_statistics(network, self.images)
        return network
