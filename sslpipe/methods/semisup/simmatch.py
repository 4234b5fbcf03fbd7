"""SimMatch (Zheng et al. 2022, arXiv:2203.06915): class and instance similarities calibrate each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.batches import Pair
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, NonNegative, Positive
from sslpipe.methods.semisup._alignment import DistributionAlignment
from sslpipe.methods.semisup._base import LabelledMethod, LabelledSettings, Problem
from sslpipe.methods.semisup._logistic import fit_classifier
from sslpipe.nets.cosine_heads import CosineHead
from sslpipe.nets.heads import InstanceHead, InstanceSettings, LinearHead
from sslpipe.nets.inference import infer
from sslpipe.nets.merged import MergedHead
from sslpipe.nets.network import Network
from sslpipe.nets.unit_heads import CentroidHead, ConsensusHead
from sslpipe.objectives.simmatch import propagate, similarities, simmatch
from sslpipe.objectives.supervised import cross_entropy
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(LabelledSettings):
    """Defaults: the SimMatch paper's for CIFAR (section 4.1); views as in FixMatch."""

    threshold: Fraction = 0.95
    """τ, the confidence from which a pseudo-label is learned. Larger: fewer pseudo-labels, more of them right."""
    unlabelled_weight: NonNegative = 1.0
    """λ_u, the weight of the unlabelled class term. Larger: pseudo-labels count more beside the labels."""
    instance_weight: NonNegative = 1.0
    """λ_in, the weight of the instance term. Larger: similarities to the labelled images count more beside the
    classes."""
    instance_from_epoch: NonNegative = 0.0
    """Epoch from which the instance term counts; it is 1 in the public code (ImageNet). Larger: it begins later, when
    embeddings are better."""
    temperature: Positive = 0.1
    """t of eq. 3 and 4, which divides the cosines to the labelled images. Larger: all of them count more alike, not the
    nearest ones above all."""
    propagation_alpha: Fraction = 0.9
    """α of eq. 10, the classifier's share in a pseudo-label. Larger: the classifier counts more, similar labelled
    images less."""
    alignment_steps: Count = 32
    """Steps over which the predictions are averaged. More: a steadier average, which follows the predictions more
    slowly."""
    memory: Literal["temporal", "teacher"] = "temporal"
    """temporal: each row follows its image's embedding (eq. 12). teacher: the averaged network embeds the labelled
    images and predicts the weak views (eq. 11), for many labels; `ema_decay` is then its momentum."""
    teacher_statistics: Literal["averaged", "batch"] = "averaged"
    """Batch norms of the teacher: averaged (eval mode, with the average of the student's running statistics: EMAN,
    arXiv:2101.08482, an option of the public code), or batch (train mode, with the statistics of the batch's weak
    views, labelled and unlabelled: the public command for ImageNet)."""
    keep: Literal["teacher", "student"] = "teacher"
    """Network to keep: teacher, the averaged one, or student, the trained one, which has the published results of
    ImageNet."""
    momentum: Fraction = 0.7
    """m of eq. 12, the share of the old embedding in a row of the memory. Larger: a steadier memory, which is further
    behind the network."""
    hidden: Count = 128
    """Width of the projection's hidden layer (public code: the backbone's). Larger: more capacity of the projection,
    slower."""
    outputs: Count = 128
    """Length of an embedding. Larger: room for more differences between images, slower."""
    strong: ViewSettings = ViewSettings(policy="randaugment")

    def __post_init__(self) -> None:
        if self.memory == "teacher" and self.ema_decay is None:
            raise UserError("memory: teacher needs ema_decay, such as 0.999")
        if self.memory != "teacher" and self.teacher_statistics != "averaged":
            raise UserError(f"teacher_statistics: {self.teacher_statistics} found, expected memory: teacher with it")
        if self.memory != "teacher" and self.keep != "teacher":
            raise UserError(f"keep: {self.keep} found, expected memory: teacher with it, or ema_decay: null instead")


class Method(LabelledMethod):
    """SimMatch, algorithm 1; `bank`, the memory, has one row of length 1 for each labelled image."""

    settings: Settings

    bank: Tensor
    bank_labels: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(settings, problem, head=instance_head(settings, problem))
        self.strong = self.policy(settings.strong)
        self.align = DistributionAlignment(problem.labelled.classes, steps=settings.alignment_steps)
        network, labelled = problem.network.eval(), problem.labelled
        bank = infer(lambda images: logits_and_embeddings(network, images)[1], labelled.images.subset(labelled.index))
        network.train()
        self.register_buffer("bank", F.normalize(bank, dim=1))
        self.register_buffer("bank_labels", labelled.label)
        self._latest: tuple[Tensor, Tensor] | None = None

    @property
    def averaged_by_batch(self) -> bool:
        """As `teacher_statistics` says."""
        return self.settings.teacher_statistics == "batch"

    def draw_views(self, batch: Pair, generator: torch.Generator) -> Sequence[Tensor]:
        """Weak views of the labelled and the unlabelled images, and strong ones of the unlabelled."""
        unlabelled = batch.unlabelled.image
        weak = self.views(torch.cat([batch.labelled.image, unlabelled]), generator)
        return weak, self.strong(unlabelled, generator)

    def losses(self, batch: Pair, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Eq. 6; labelled, weak and strong views share one forward, except with a teacher."""
        settings, labelled, (weak, strong) = self.settings, batch.labelled, views
        count, others = len(labelled), len(batch.unlabelled)
        if settings.memory == "teacher":
            assert self.averaged is not None
            logits, z = logits_and_embeddings(self.network, torch.cat([weak[: len(labelled.image)], strong]))
            (labelled_logits, strong_logits), z_strong = torch.split(logits, [count, others]), z[count:]
            with torch.no_grad():
                logits, z = logits_and_embeddings(self.averaged.module, weak)
            weak_logits, (z_labelled, z_weak) = logits[count:], torch.split(z, [count, others])
        else:
            logits, z = logits_and_embeddings(self.network, torch.cat([weak, strong]))
            labelled_logits, weak_logits, strong_logits = torch.split(logits, [count, others, others])
            z_labelled, z_weak, z_strong = torch.split(z, [count, others, others])
        with torch.no_grad():
            p = self.align(weak_logits.softmax(dim=1))
            q = similarities(z_weak, self.bank, temperature=settings.temperature)
            p_hat, q_hat = propagate(p, q, self.bank_labels, alpha=settings.propagation_alpha)
        strong_q = similarities(z_strong, self.bank, temperature=settings.temperature)
        terms = simmatch(p_hat, q_hat, strong_logits, strong_q, threshold=settings.threshold)
        supervised_loss = cross_entropy(labelled_logits, labelled.label, smoothing=settings.label_smoothing)
        self._latest = labelled.index, z_labelled.detach()
        instance_weight = settings.instance_weight if self.progress.epochs >= settings.instance_from_epoch else 0.0
        unlabelled_loss = settings.unlabelled_weight * terms["semantic"] + instance_weight * terms["instance"]
        return {"loss": supervised_loss + unlabelled_loss, "labelled": supervised_loss, **terms}

    def chance_loss(self) -> float:
        """All L classes and all K rows of the memory are equally likely: ln L + λ_in ln K.

        λ_u ln L is added if τ is below the largest p_hat, which is α / L + (1 - α) times the largest share of a class
        among the labels; λ_in ln K is left out before `instance_from_epoch`.
        """
        settings, classes, alpha = self.settings, self.labelled.classes, self.settings.propagation_alpha
        largest = self.labelled.label.bincount().max().item() / len(self.labelled)
        confident = alpha / classes + (1 - alpha) * largest > settings.threshold
        begun = self.progress.before.epochs >= settings.instance_from_epoch
        semantic = (1 + settings.unlabelled_weight * confident) * log(classes)
        return semantic + settings.instance_weight * begun * log(len(self.bank))

    @property
    def keeps_student(self) -> bool:
        """As `keep` says."""
        return self.settings.keep == "student"

    def after_step(self) -> None:
        """Move the labelled images' rows of the memory, which the backward pass needs no longer, and the average."""
        if self._latest is not None:
            self._remember(*self._latest)
            self._latest = None
        super().after_step()

    @torch.no_grad()
    def _remember(self, index: Tensor, z: Tensor) -> None:
        """Update the memory by eq. 12, or by the teacher's embeddings; the views of one image are averaged.

        index: [B], rows of the memory, the only ones that are read and written. z: [B, D], each of length 1.
        """
        # Each image's first place in the batch stands for all of its places, without waiting for the device.
        first = (index[:, None] == index).int().argmax(dim=1)
        count = z.new_zeros(len(index), 1).index_add_(0, first, z.new_ones(len(index), 1))
        mean = (torch.zeros_like(z).index_add_(0, first, z) / count.clamp(min=1))[first]
        momentum = self.settings.momentum if self.settings.memory == "temporal" else 0.0
        self.bank[index] = F.normalize(momentum * self.bank[index] + (1 - momentum) * mean, dim=1)


def instance_head(settings: Settings, problem: Problem) -> InstanceHead:
    """Classifier and embedding side by side; a start that knows the classes keeps its layer to them."""
    network, classes = problem.network, problem.labelled.classes
    start = network.head
    head = InstanceHead(
        network.backbone.dimension,
        InstanceSettings(classes=classes, hidden=settings.hidden, outputs=settings.outputs),
    ).to(network.mean.device)
    if isinstance(start, LinearHead) and start.out_features == classes:
        head.classifier.load_state_dict(start.state_dict())
    elif settings.head_init == "logistic" or isinstance(start, MergedHead | ConsensusHead | CentroidHead | CosineHead):
        fit_classifier(head.classifier, network, problem.labelled)
    return head


def logits_and_embeddings(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """Class logits [B, C] and embeddings [B, D] of length 1."""
    assert isinstance(network.head, InstanceHead)
    features = network.features(images)
    return network.head(features).float(), network.head.embed(features).float()
