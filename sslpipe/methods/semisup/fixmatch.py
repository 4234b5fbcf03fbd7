"""FixMatch (Sohn et al. 2020, arXiv:2001.07685): confident predictions on weak views are targets for strong views."""

from collections.abc import Hashable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from sslpipe.data.batches import LabelledBatch, Pair
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, NonNegative
from sslpipe.methods.semisup._alignment import DistributionAlignment
from sslpipe.methods.semisup._base import LabelledMethod, LabelledSettings, Problem
from sslpipe.objectives.fixmatch import fixmatch
from sslpipe.objectives.masked import NormalizeBy
from sslpipe.objectives.supervised import cross_entropy
from sslpipe.views.ctaugment import CTAugment
from sslpipe.views.draw import Draw
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(LabelledSettings):
    """Defaults: the FixMatch paper's for CIFAR-10 (section 4, table 4; CTAugment in section 2.3 and table 2)."""

    threshold: Fraction = 0.95
    """τ, the confidence from which a pseudo-label is learned. Larger: fewer pseudo-labels, more of them right."""
    unlabelled_weight: NonNegative = 1.0
    """λ_u, the weight of the unlabelled term. Larger: pseudo-labels count more beside the labels."""
    normalize_by: NormalizeBy = "batch"
    """Divide the unlabelled term by all images (FixMatch, eq. 4) or by the confident ones ("Boosting SSL"), with which
    few confident images weigh as much as many."""
    weak: ViewSettings | None = None
    """Views of the unlabelled images that give the pseudo-labels, and what CTAugment is learned on; null: as `views`
    (the paper). The public code of "Boosting SSL" jitters the colours of the labelled images alone."""
    strong: ViewSettings = ViewSettings(policy="randaugment")
    ctaugment: bool = False
    """Learn the magnitude of each operation (CTAugment, arXiv:1911.09785) instead of sampling it uniformly; its 19
    operations are those of strong.policy: ctaugment or ctaugment_code."""
    alignment: bool = False
    """Align the predictions' distribution with that of the labels (section 2.5: FixMatch with DA), so that
    pseudo-labels do not concentrate on a few classes."""
    alignment_steps: Count = 128
    """Steps over which the predictions are averaged (ReMixMatch, section 3.1). More: a steadier average, which follows
    the predictions more slowly."""


class Method(LabelledMethod):
    """FixMatch, algorithm 1."""

    settings: Settings

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.weak = self.policy(settings.weak) if settings.weak else self.views
        self.strong = self.policy(settings.strong)
        self.ctaugment = learned_augmentation(settings.strong) if settings.ctaugment else None
        self.align: DistributionAlignment | None = None
        if settings.alignment:
            share = torch.bincount(problem.labelled.label, minlength=problem.labelled.classes) / len(problem.labelled)
            self.align = DistributionAlignment(len(share), steps=settings.alignment_steps, target=share)

    def draw_views(self, batch: Pair, generator: torch.Generator) -> Tensor:
        """Weak views of the labelled and the unlabelled images, and strong ones of the unlabelled."""
        labelled, unlabelled = batch.labelled, batch.unlabelled.image
        if self.ctaugment is not None:
            self._learn_augmentation(labelled, generator)
        if self.settings.weak:
            weak = torch.cat([self.views(labelled.image, generator), self.weak(unlabelled, generator)])
        else:
            weak = self.views(torch.cat([labelled.image, unlabelled]), generator)
        return torch.cat([weak, self.strong(unlabelled, generator, operations=self.ctaugment)])

    def views_form(self) -> Hashable | None:
        """None with CTAugment, whose probes the network predicts before the views are drawn."""
        return None if self.ctaugment is not None else super().views_form()

    def losses(self, batch: Pair, views: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Labelled, weak and strong images in one forward."""
        settings, labelled = self.settings, batch.labelled
        logits = self.network(views).float()
        labelled_logits, weak_logits, strong_logits = torch.split(logits, [len(labelled), *2 * [len(batch.unlabelled)]])
        if self.align is not None:
            weak_logits = self.align(weak_logits.softmax(dim=1)).log()
        supervised_loss = cross_entropy(labelled_logits, labelled.label, smoothing=settings.label_smoothing)
        terms = fixmatch(weak_logits, strong_logits, threshold=settings.threshold, normalize_by=settings.normalize_by)
        return {
            "loss": supervised_loss + settings.unlabelled_weight * terms["loss"],
            "labelled": supervised_loss,
            "unlabelled": terms["loss"],
            "confident": terms["confident"],
        }

    def chance_loss(self) -> float:
        """All C classes are equally likely: ln C, and λ_u ln C more if τ is so low that such images are confident.

        With alignment their confidence is the largest share of a class among the labels, otherwise 1/C.
        """
        classes = self.labelled.classes
        confidence = 1 / classes if self.align is None else float(self.align.target.max())
        confident = confidence >= self.settings.threshold
        return (1 + self.settings.unlabelled_weight * confident) * log(classes)

    @torch.no_grad()
    def _learn_augmentation(self, labelled: LabelledBatch, generator: torch.Generator) -> None:
        """Update CTAugment by how well the model, in eval mode, predicts augmented labelled images."""
        assert self.ctaugment is not None
        probe = self.ctaugment.probe(Draw(len(labelled), generator))
        ctaugment, own = self.ctaugment, probe.own()
        views = self.weak(labelled.image, generator, operations=lambda view, draw: ctaugment.apply_probe(view, own))
        prediction = self.network.eval()(views).float().softmax(dim=1)
        self.network.train()
        truth = torch.nn.functional.one_hot(labelled.label, prediction.shape[1])
        self.ctaugment.update(probe, 1 - (prediction - truth).abs().sum(dim=1) / 2)


def learned_augmentation(strong: ViewSettings) -> CTAugment:
    """CTAugment over the operations of a strong policy."""
    policy = strong.resolved()
    if not policy.operations or not policy.operation_names:
        raise UserError("ctaugment: the strong policy has no operations; set strong.policy: ctaugment")
    return CTAugment(policy.operation_names, pool=policy.operation_ranges or "scan", depth=policy.operations)
