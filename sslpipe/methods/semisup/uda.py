"""Unsupervised data augmentation (Xie et al. 2020): strong views take over the sharpened answers of weak ones."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.labelled import Pair
from sslpipe.io.settings import Fraction, NonNegative, Positive
from sslpipe.methods.parts.task import Task
from sslpipe.methods.semisup import supervised
from sslpipe.objectives.uda import annealed_cross_entropy, signal_threshold, uda
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(supervised.Settings):
    """Defaults: the UDA paper's for CIFAR-10 (appendix), in FixMatch's batches and schedule."""

    temperature: Positive = 0.4
    """τ of the sharpening."""
    threshold: Fraction = 0.8
    """β, the confidence from which an image counts."""
    unlabelled_weight: NonNegative = 1.0
    """λ."""
    annealing: Literal["off", "linear", "log", "exp"] = "off"
    """Training signal annealing: labelled images that the model is sure of are held back, first many, then none."""
    strong: ViewSettings = ViewSettings(policy="randaugment")


class Learner(supervised.Learner):
    """UDA, eq. 1 with the techniques of section 2.2 and appendix."""

    settings: Settings

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.strong = self.policy(settings.strong)

    def losses(self, batch: Pair, generator: torch.Generator) -> dict[str, Tensor]:
        """Labelled, weak and strong images in one forward."""
        settings, labelled, unlabelled = self.settings, batch.labelled, batch.unlabelled.image
        weak = self.views(torch.cat([labelled.image, unlabelled]), generator)
        logits = self.network(torch.cat([weak, self.strong(unlabelled, generator)])).float()
        labelled_logits, weak_logits, strong_logits = torch.split(logits, [len(labelled.image), *2 * [len(unlabelled)]])
        release = signal_threshold(self.progress.fraction, classes=logits.shape[1], schedule=settings.annealing)
        signal = annealed_cross_entropy(
            labelled_logits, labelled.label, threshold=release, smoothing=settings.label_smoothing
        )
        terms = uda(weak_logits, strong_logits, temperature=settings.temperature, threshold=settings.threshold)
        return {
            "loss": signal["loss"] + settings.unlabelled_weight * terms["loss"],
            "labelled": signal["loss"],
            "unlabelled": terms["loss"],
            "confident": terms["confident"],
            "released": signal["released"],
        }
