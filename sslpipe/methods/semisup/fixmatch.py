"""FixMatch (Sohn et al. 2020): what the model is sure of on a weak view, it learns on a strong one."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.labelled import LabelledBatch, Pair
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, NonNegative
from sslpipe.methods.parts.alignment import DistributionAlignment
from sslpipe.methods.parts.task import Task
from sslpipe.methods.semisup import supervised
from sslpipe.objectives.fixmatch import fixmatch
from sslpipe.objectives.supervised import cross_entropy
from sslpipe.views.ctaugment import CTAugment
from sslpipe.views.draw import Draw
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(supervised.Settings):
    """Defaults: the FixMatch paper's for CIFAR-10 (section 4, table 4; CTAugment in section 2.3 and table 2)."""

    threshold: Fraction = 0.95
    """τ."""
    unlabelled_weight: NonNegative = 1.0
    """λ_u."""
    over: Literal["batch", "confident"] = "batch"
    """What the unlabelled term is divided by: all images (FixMatch, eq. 4) or the confident (alternation paper)."""
    strong: ViewSettings = ViewSettings(policy="randaugment")
    ctaugment: bool = False
    """Learn how strong each operation may be (CTAugment), in place of the strong policy's uniform draw."""
    alignment: bool = False
    """Align the answers' distribution with the labelled images' (section 2.5: FixMatch with DA)."""
    alignment_steps: Count = 128
    """Steps over which the answers are averaged (ReMixMatch, section 3.1)."""


class Learner(supervised.Learner):
    """FixMatch, algorithm 1."""

    settings: Settings

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.strong = self.policy(settings.strong)
        self.ctaugment = learned_augmentation(settings.strong) if settings.ctaugment else None
        self.align: DistributionAlignment | None = None
        if settings.alignment:
            share = torch.bincount(task.labelled.label, minlength=task.labelled.classes) / len(task.labelled)
            self.align = DistributionAlignment(len(share), steps=settings.alignment_steps, target=share)

    def losses(self, batch: Pair, generator: torch.Generator) -> dict[str, Tensor]:
        """Labelled, weak and strong images in one forward."""
        settings, labelled, unlabelled = self.settings, batch.labelled, batch.unlabelled.image
        if self.ctaugment is not None:
            self._learn_augmentation(labelled, generator)
        weak = self.views(torch.cat([labelled.image, unlabelled]), generator)
        strong = self.strong(unlabelled, generator, operations=self.ctaugment)
        logits = self.network(torch.cat([weak, strong])).float()
        labelled_logits, weak_logits, strong_logits = torch.split(logits, [len(labelled.image), *2 * [len(unlabelled)]])
        if self.align is not None:
            weak_logits = self.align(weak_logits.detach().softmax(dim=1)).clamp(min=1e-12).log()
        supervised_loss = cross_entropy(labelled_logits, labelled.label, smoothing=settings.label_smoothing)
        terms = fixmatch(weak_logits, strong_logits, threshold=settings.threshold, over=settings.over)
        return {
            "loss": supervised_loss + settings.unlabelled_weight * terms["loss"],
            "labelled": supervised_loss,
            "unlabelled": terms["loss"],
            "confident": terms["confident"],
        }

    @torch.no_grad()
    def _learn_augmentation(self, labelled: LabelledBatch, generator: torch.Generator) -> None:
        """How much of the right answer each operation leaves, seen on labelled images by the model in eval mode."""
        assert self.ctaugment is not None
        probe = self.ctaugment.probe(Draw(len(labelled.image), generator))
        ctaugment = self.ctaugment
        views = self.views(labelled.image, generator, operations=lambda view, draw: ctaugment.apply_probe(view, probe))
        answer = self.network.eval()(views).float().softmax(dim=1)
        self.network.train()
        truth = torch.nn.functional.one_hot(labelled.label, answer.shape[1])
        self.ctaugment.update(probe, 1 - (answer - truth).abs().sum(dim=1) / 2)


def learned_augmentation(strong: ViewSettings) -> CTAugment:
    """CTAugment over the operations of a strong policy."""
    policy = strong.resolved()
    if not policy.operations or not policy.operation_names:
        raise UserError("ctaugment: the strong policy has no operations; set strong.policy: randaugment")
    return CTAugment(policy.operation_names, ranges=policy.operation_ranges or "fixmatch", depth=policy.operations)
