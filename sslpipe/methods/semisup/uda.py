"""UDA (Xie et al. 2020, arXiv:1904.12848): sharpened predictions on weak views are targets for strong views."""

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Pair
from sslpipe.io.settings import Fraction, NonNegative, Positive
from sslpipe.methods.semisup._base import LabelledMethod, LabelledSettings, Problem
from sslpipe.objectives.masked import NormalizeBy
from sslpipe.objectives.uda import annealed_cross_entropy, signal_threshold, uda
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(LabelledSettings):
    """Defaults: the UDA paper's for CIFAR-10 (appendix), in FixMatch's batches and schedule."""

    temperature: Positive = 0.4
    """τ of the sharpening. Larger: less certain targets; 1: no sharpening."""
    threshold: Fraction = 0.8
    """β, the least confidence of an unlabelled image that is used. Larger: fewer images, more of them with the right
    target."""
    unlabelled_weight: NonNegative = 1.0
    """λ, the weight of the unlabelled term. Larger: consistent predictions count more beside the labels."""
    annealing: Literal["off", "linear", "log", "exp"] = "off"
    """Training signal annealing: leave out labelled images whose prediction is above a threshold that rises to 1. log:
    it rises early, linear: evenly, exp: late, against the overfitting of few labels."""
    normalize_by: NormalizeBy = "batch"
    """Divide the unlabelled term by all images (public code of FixMatch, arXiv:2001.07685) or by the confident ones
    (public code of "Boosting SSL", arXiv:2012.00504), with which few confident images weigh as much as many."""
    strong: ViewSettings = ViewSettings(policy="randaugment")


class Method(LabelledMethod):
    """UDA, eq. 1 with the techniques of section 2.2 and appendix."""

    settings: Settings

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.strong = self.policy(settings.strong)

    def draw_views(self, batch: Pair, generator: torch.Generator) -> Tensor:
        """Weak views of the labelled and the unlabelled images, and strong ones of the unlabelled."""
        unlabelled = batch.unlabelled.image
        weak = self.views(torch.cat([batch.labelled.image, unlabelled]), generator)
        return torch.cat([weak, self.strong(unlabelled, generator)])

    def losses(self, batch: Pair, views: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Labelled, weak and strong images in one forward."""
        settings, labelled = self.settings, batch.labelled
        logits = self.network(views).float()
        labelled_logits, weak_logits, strong_logits = torch.split(logits, [len(labelled), *2 * [len(batch.unlabelled)]])
        release = signal_threshold(self.progress.fraction, classes=logits.shape[1], schedule=settings.annealing)
        signal = annealed_cross_entropy(
            labelled_logits, labelled.label, threshold=release, smoothing=settings.label_smoothing
        )
        terms = uda(
            weak_logits,
            strong_logits,
            temperature=settings.temperature,
            threshold=settings.threshold,
            normalize_by=settings.normalize_by,
        )
        return {
            "loss": signal["loss"] + settings.unlabelled_weight * terms["loss"],
            "labelled": signal["loss"],
            "unlabelled": terms["loss"],
            "confident": terms["confident"],
            "released": signal["released"],
        }

    def chance_loss(self) -> float:
        """All C classes are equally likely: ln C, and λ ln C more if β is so low that such images are confident."""
        classes, settings = self.labelled.classes, self.settings
        return (1 + settings.unlabelled_weight * (1 / classes > settings.threshold)) * log(classes)
