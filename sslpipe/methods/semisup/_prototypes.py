"""The framework of Suave and Daino (Fini et al. 2023, arXiv:2306.07483, section 3.2): one prototype for each class.

One cross-entropy for labelled images and for unlabelled ones, whose targets a clustering δ assigns (eq. 1 to 3).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import one_hot

from sslpipe.data import world
from sslpipe.data.batches import Pair
from sslpipe.io.errors import UserError
from sslpipe.io.settings import BelowOne, Count, CountOrZero, Positive, TwoOrMore
from sslpipe.methods.semisup._base import LabelledMethod, LabelledSettings, Problem, add_classifier
from sslpipe.methods.semisup._monitors import monitor_accuracies, monitor_loss
from sslpipe.methods.semisup._prototype_start import keep_projection, place_prototypes
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.heads import PrototypeHead, PrototypeSettings, outputs
from sslpipe.nets.inference import infer
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.objectives.supervised import cross_entropy, multi_task
from sslpipe.objectives.swav import swapped_prediction
from sslpipe.views.mixing import Mix, MixSettings, draw_mix
from sslpipe.views.multi_crop import GLOBAL_VIEWS, SWAV_VIEWS, MultiCrop, MultiCropSettings
from sslpipe.views.policies import ViewSettings

MixUnlabelled = Literal["none", "global", "all"]


@dataclass(frozen=True, kw_only=True)
class PrototypesSettings(LabelledSettings, MultiCropSettings):
    """Settings that Suave and Daino share. Defaults: section A.1."""

    labelled_batch: TwoOrMore = 128
    """Labelled images in a batch, beside the unlabelled ones of `fit.batch`. Larger: less noise in a step, more time
    and memory."""
    views: ViewSettings = ViewSettings(policy="simclr", crop_scale=(0.08, 1.0))
    label_smoothing: BelowOne = 0.01
    """Share of each label's probability that is spread over all classes. Larger: less certain predictions, less trust
    in each label."""
    hidden: Count = 2048
    """Width of the projection's hidden layer. Larger: more capacity of the projection, slower."""
    outputs: Count = 128
    """Length of an embedding. Larger: room for more differences between images, slower."""
    projection_init: Literal["random", "pretrained"] = "random"
    """Whether the projection of the start (a pretext task's or a Suave model's) is kept. The public code drops it for
    training and keeps it for fine-tuning. A projection that is kept must have two layers and batch norm."""
    temperature: Positive = 0.1
    """τ of the predictions. Larger: less certain predictions."""
    local_views: ViewSettings = replace(SWAV_VIEWS, crop_scale=(0.08, 0.14))
    local_crops: CountOrZero = 8
    """Number of small local views of each image (SwAV, arXiv:2006.09882). More: better features after as many epochs,
    each of which takes more time and memory."""
    mixing: MixSettings = MixSettings()
    mix_labelled: bool = True
    """Add mixed labelled images to the labelled ones, against overfitting, for more time."""
    mix_unlabelled: MixUnlabelled = "global"
    """Add mixed views, whose targets are interpolated in the same way (all: CIFAR-100, section A.2)."""
    mix_with: Literal["same_view", "next_view"] = "same_view"
    """same_view: each view is mixed with the same view of another image, and their targets are what the view predicts.
    next_view: of each two views, the first is mixed with the second of another image, and their targets are the
    assignments of the first and the second global view; half as many mixed views (public code)."""
    mix_weight: Positive = 1.0
    """Weight of a mixed view of an image in the loss; every other view has 1. The public code counts a mixed view once
    where it counts all others once for each image: 1 / images of a process, which in effect turns mixing off. Larger:
    mixed views count more, so stronger regularisation."""
    teacher_statistics: Literal["averaged", "batch"] = "batch"
    """Batch norms of the momentum encoder that gives the targets: averaged (eval mode, with the average of the
    network's running statistics), or batch (train mode, with the statistics of the batch's global views: public code of
    Suave, DINO and Daino). From scratch, averaged statistics say little for some hundred steps."""
    keep: Literal["teacher", "student"] = "teacher"
    """Network to keep: teacher, the averaged one if there is one (Daino's public code scores it), or student, the
    trained one (Suave's public code)."""
    monitors: bool = True
    """Train linear classifiers on the backbone and on the projection's layers, which are saved with the model and
    evaluated beside it (section 4; table 6 has the published results of the first layer of the projection)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_pairs = self.mix_with == "next_view" and self.mix_unlabelled == "all"
        if in_pairs and self.local_crops % 2:
            raise UserError(f"local_crops: {self.local_crops} found, expected an even number for mix_with: next_view")


@dataclass(frozen=True)
class PrototypeViews:
    """The views of a step, float [B, C, h, w] each, and how they are to be mixed."""

    labelled: Tensor
    """Of the labelled images."""
    labelled_mix: Mix | None
    crops: Sequence[Tensor]
    """Of the unlabelled images, first the global views."""
    mixes: Sequence[Mix]
    """For each of `PrototypeMethod._mixed_pairs`."""


class PrototypeMethod(LabelledMethod):
    """Figure 2 with multi-crop and mixing (section 4); subclasses define `assign`, the δ of eq. 1."""

    settings: PrototypesSettings

    def __init__(self, settings: PrototypesSettings, problem: Problem) -> None:
        super().__init__(settings, problem, head=prototype_head(settings, problem))
        network, size = self.network, problem.labelled.images.array.shape[-1]
        self.crops = MultiCrop(
            settings, network.image_mean, size=size, multiple=network.side_multiple, side=network.side
        )
        self.monitors: LinearMonitors | None = None
        self.averaged_monitors: AveragedWeights[LinearMonitors] | None = None
        if settings.monitors:
            self.monitors = LinearMonitors(self.network)
            if settings.projection_init == "pretrained" and problem.monitors is not None:
                self.monitors.load_state_dict(problem.monitors.state_dict())
            if self.averaged is not None and settings.keep == "teacher":
                self.averaged_monitors = AveragedWeights(self.monitors)

    @property
    def has_teacher(self) -> bool:
        """Whether the averaged network gives the targets."""
        return True

    @property
    def averaged_by_batch(self) -> bool:
        """As `teacher_statistics` says, of a teacher."""
        return self.has_teacher and self.settings.teacher_statistics == "batch"

    @abstractmethod
    def assign(self, views: Tensor, embeddings: Tensor) -> Tensor:
        """Targets [G, B, C] of the G global views (δ of eq. 1), without gradient.

        views: [G, B, …]. embeddings: [G, B, D], the student's, of length 1 and without gradient.
        """

    def draw_views(self, batch: Pair, generator: torch.Generator) -> PrototypeViews:
        """Views of both kinds of images, and with which others they are mixed."""
        settings, labelled = self.settings, self.views(batch.labelled.image, generator)
        mix = self._draw_mix(labelled, generator) if settings.mix_labelled else None
        crops = self.crops(batch.unlabelled.image, generator)
        mixes = [self._draw_mix(view, generator) for view, _ in self._mixed_pairs(crops)]
        return PrototypeViews(labelled, mix, crops, mixes)

    def losses(self, batch: Pair, views: PrototypeViews, generator: torch.Generator) -> dict[str, Tensor]:
        """Eq. 3: each term is a mean over its predictions, weighted by their number."""
        labelled, truth = self._labelled(batch, views)
        crops, mixes, count = views.crops, views.mixes, len(batch.unlabelled)
        mixed = [mix.images(*pair) for mix, pair in zip(mixes, self._mixed_pairs(crops), strict=True)]

        sizes = [len(truth), *[count] * (len(crops) + len(mixed))]
        features, head = torch.cat(self.network.features_of([labelled, *crops, *mixed])), self.network.head
        assert isinstance(head, PrototypeHead)
        layers = head.layers(features)
        embeddings = F.normalize(layers[-1].float(), dim=1)
        logits = head.scores(embeddings) / self.settings.temperature
        labelled_logits, *predicted = torch.split(logits, sizes)
        student = torch.split(embeddings.detach(), sizes)[1 : 1 + GLOBAL_VIEWS]
        with torch.no_grad():
            targets = self.assign(torch.stack(list(crops[:GLOBAL_VIEWS])), torch.stack(student))

        known = cross_entropy(labelled_logits, truth, smoothing=self.settings.label_smoothing)
        swapped = swapped_prediction(targets, predicted[: len(crops)])
        terms, counts = [known, swapped], [float(len(truth)), float(len(crops) * count)]
        if mixed:
            interpolated = [
                cross_entropy(logit, target)
                for logit, target in zip(predicted[len(crops) :], self._mixed_targets(targets, mixes), strict=True)
            ]
            terms.append(torch.stack(interpolated).mean())
            counts.append(len(mixed) * count * self.settings.mix_weight)
        loss = multi_task(terms, counts)
        if self.monitors is not None:
            plain = len(batch.labelled)  # images that are not mixed
            watched, smoothing = [layer[:plain] for layer in (features, *layers)], self.settings.label_smoothing
            loss = loss + plain / sum(counts) * monitor_loss(self.monitors, watched, truth[:plain], smoothing=smoothing)
        share = targets.mean(dim=(0, 1)).max()
        return {"loss": loss, "labelled": known, "swapped": swapped, "largest_share": share}

    def chance_loss(self) -> float:
        """All C classes are equally likely: ln C, and that of each monitor, weighted as in `losses`."""
        settings, chance = self.settings, log(self.labelled.classes)
        if self.monitors is None:
            return chance
        crops = GLOBAL_VIEWS + settings.local_crops
        mixed = {"none": 0, "global": GLOBAL_VIEWS, "all": crops}[settings.mix_unlabelled]
        mixed //= 2 if settings.mix_with == "next_view" else 1
        labelled = settings.labelled_batch * (1 + settings.mix_labelled)
        predictions = labelled + settings.fit.batch * (crops + mixed * settings.mix_weight)
        return chance * (1 + settings.labelled_batch / predictions * len(self.monitors.names))

    def _labelled(self, batch: Pair, views: PrototypeViews) -> tuple[Tensor, Tensor]:
        """Views of the labelled images and their targets [·, C], followed by mixtures of them if set."""
        truth, mix = one_hot(batch.labelled.label, self.labelled.classes).float(), views.labelled_mix
        if mix is None:
            return views.labelled, truth
        return torch.cat([views.labelled, mix.images(views.labelled)]), torch.cat([truth, mix.targets(truth)])

    def _mixed_pairs(self, crops: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The views that are mixed, each with the one whose images are its partners."""
        settings = self.settings
        views = crops[: {"none": 0, "global": GLOBAL_VIEWS, "all": len(crops)}[settings.mix_unlabelled]]
        first, second = (views[::2], views[1::2]) if settings.mix_with == "next_view" else (views, views)
        return list(zip(first, second, strict=True))

    def _draw_mix(self, view: Tensor, generator: torch.Generator) -> Mix:
        """How the images of a view [B, C, h, w] of all processes are mixed."""
        return draw_mix(self.settings.mixing, world.total(len(view)), (view.shape[-2], view.shape[-1]), generator)

    def _mixed_targets(self, targets: Tensor, mixes: Sequence[Mix]) -> list[Tensor]:
        """Target [B, C] of each mixture; targets: [G, B, C]."""
        if self.settings.mix_with == "next_view":
            return [mix.targets(targets[0], targets[1]) for mix in mixes]
        return [mix.targets(other_targets(targets, view)) for view, mix in enumerate(mixes)]

    def after_step(self) -> None:
        """Update the averaged weights, those of the monitors included."""
        super().after_step()
        if self.monitors is not None and self.averaged_monitors is not None:
            self.averaged_monitors.update(self.monitors, decay=self.current_ema_decay())

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Accuracies of the network to keep and of its linear monitors on the held-out images."""
        row = super().after_epoch(terms)
        monitors = self.selected_monitors()
        if self.held_out and monitors is not None:
            row |= monitor_accuracies(monitors, self.selected(), self.held_out)
        return row

    @property
    def keeps_student(self) -> bool:
        """As `keep` says."""
        return self.settings.keep == "student"

    def selected_monitors(self) -> LinearMonitors | None:
        """The classifiers on the layers of the network to keep; None if there are none."""
        return self.monitors if self.averaged_monitors is None else self.averaged_monitors.module


def prototype_head(settings: PrototypesSettings, problem: Problem) -> PrototypeHead:
    """A projection and one prototype for each class; the start's own prototypes are never kept.

    If the start knows the classes, or with `head_init: logistic` a logistic regression on its features does, each
    prototype begins at the mean embedding of the images that are predicted as its class.
    """
    network, classes = problem.network, problem.labelled.classes
    start = network.head
    head = PrototypeHead(
        network.backbone.dimension,
        PrototypeSettings(
            prototypes=classes, hidden=settings.hidden, outputs=settings.outputs, temperature=settings.temperature
        ),
    ).to(network.mean.device)
    if settings.projection_init == "pretrained":
        keep_projection(head, start)
    if settings.head_init == "logistic":
        add_classifier(network, problem.labelled, settings.head_init)
    if outputs(network.head) == classes:
        features = infer(network.eval().features, problem.labelled.images)
        place_prototypes(head, features, network.head(features).argmax(dim=1))
    return head


def other_targets(targets: Tensor, view: int) -> Tensor:
    """Mean target [B, C] of the global views other than this view; targets: [G, B, C]."""
    kept = [target for place, target in enumerate(targets) if place != view]
    return torch.stack(kept).mean(dim=0)
