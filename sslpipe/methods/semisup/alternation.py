"""Semi-supervised epochs alternate with clustering epochs ("Boosting SSL", Lerner et al. 2020, arXiv:2012.00504)."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import log, sqrt
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.batches import Batch, Pair
from sslpipe.data.images import on_device
from sslpipe.engine.method import BaseMethod, Multipliers, Progress
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.params import find_module
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, Positive, TwoOrMore, parse
from sslpipe.methods.semisup._base import LabelledMethod, Problem
from sslpipe.methods.semisup._phases import Phase, Phases
from sslpipe.nets.heads import ProjectionSettings, build_head
from sslpipe.nets.network import Network
from sslpipe.objectives.alternation import Distance, assign_targets, clustering
from sslpipe.views.policies import ViewSettings, plain

NONE = -1
"""Marks an image without a target."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the paper's for CIFAR-10 (section 4.1), and its public code where the paper gives no value."""

    base: str = "fixmatch"
    """The semi-supervised method to alternate with, another module of semisup (the paper: FixMatch, MixMatch, UDA)."""
    ssl: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the base method, except labelled_batch and fit, which are settings of the alternation."""
    labelled_batch: TwoOrMore = 64
    """Labelled images in a batch, beside the unlabelled ones of `fit.batch`. Larger: less noise in a step, more time
    and memory."""
    warmup_epochs: CountOrZero = 20
    """Epochs of rotation alone at the start of the run. More: better features before the first labels, slower."""
    ssl_epochs: Count = 10
    """e1 of algorithm 2, the semi-supervised epochs in a row; 5 on SVHN and STL-10. More: the labels count more, the
    clusters less."""
    rotation_epochs: CountOrZero = 1
    """Epochs of rotation before the clustering epochs of an iteration (none on SVHN). More: rotations shape the
    features more, in place of the other epochs."""
    cluster_epochs: CountOrZero = 1
    """e2 of algorithm 2, the clustering epochs in a row. More: the clusters count more, the labels less."""
    share: Fraction = 1.0
    """α, the share of images with a target; 0.6 on SVHN and STL-10. Larger: more images are forced into clusters of
    equal sizes."""
    radius: NonNegative = 0.2
    """ρ, the distance to the nearest unit vector below which an image without target learns it. Larger: more of these
    images learn their nearest vector, more of them a wrong one."""
    distance: Distance = "squared"
    """The distances that are compared with ρ and added up in the assignment of targets: squared (section 3.1 and
    eq. 4), or euclidean (public code)."""
    reduction: Literal["sum", "mean"] = "sum"
    """The clustering loss of an image adds the squares over the clusters (eq. 5) or averages them (public code), which
    divides the gradient by their number."""
    cluster_batch: Count | None = None
    """Number of a batch's images among which targets are exchanged (public code: 128); null: all of them. More: better
    matching targets, by an assignment that takes longer."""
    copies: Count = 3
    """r, views of an image that learn its target. More: a steadier gradient, in proportionally more time and memory."""
    lr: Positive = 0.01
    """Learning rate of rotation and clustering. Larger: faster learning in these epochs, until they undo the
    semi-supervised ones."""
    lr_milestones: tuple[Count, ...] = ()
    """Clustering epochs after which `lr` is halved (public code; 100 on CIFAR-10). Larger: the rate falls later."""
    schedule_over: Literal["all", "semisupervised"] = "all"
    """Epochs over which fit.schedule runs. all: rotation and clustering follow it too. semisupervised: these epochs
    alone, in which it runs from its start to its end (public code)."""
    average_in: Literal["all", "semisupervised"] = "all"
    """Epochs in which the averaged weights follow the network: all (section 4.1: "over the training"), or the
    semi-supervised ones alone (public code), after the last of which the model does not change."""
    weight_decay: NonNegative = 1e-4
    """Weight decay of rotation and clustering. Larger: smaller weights and less overfitting in these epochs."""
    views: ViewSettings = ViewSettings(
        policy="weak", jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.125
    )
    """Views of the copies."""
    rotation_views: ViewSettings = ViewSettings(policy="weak", flip=0.0)
    rotation_head: ProjectionSettings = ProjectionSettings(depth=3, hidden=128, outputs=4, batch_norm=True)
    fit: FitSettings = FitSettings(
        epochs=20 + 200 * 12,
        batch=448,
        optimizer=OptimizerSettings(name="sgd", lr=0.03, momentum=0.9, weight_decay=5e-4),
        schedule=ScheduleSettings(name="cosine_7_16"),
    )
    """The optimiser of the semi-supervised epochs; in the other epochs `lr` and `weight_decay` replace its values."""

    def __post_init__(self) -> None:
        for key in ("labelled_batch", "fit"):
            if key in self.ssl:
                raise UserError(f"ssl.{key}: set it beside ssl, where it applies to all epochs")
        if self.weight_decay and not self.fit.optimizer.weight_decay:
            raise UserError("weight_decay: needs fit.optimizer.weight_decay above 0, of which it is a multiple")


class Method(BaseMethod):
    """Algorithm 2, with algorithm 1 as its clustering epochs."""

    targets: Tensor
    _progress = Progress()

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        self.settings = settings
        module = find_module("sslpipe.methods.semisup", settings.base, where="semisup.alternation.base")
        if not issubclass(module.Method, LabelledMethod):
            raise UserError(
                f"semisup.alternation.base: {settings.base} found, expected a method that trains in steps, as fixmatch"
            )
        own = parse(module.Settings, settings.ssl, where="semisup.alternation.ssl")
        self.base: LabelledMethod = module.Method(own, problem)
        self.falling, self.collapse_hint = self.base.falling, self.base.collapse_hint
        network, images = self.network, problem.labelled.images
        self.rotation = build_head(settings.rotation_head, network.backbone.dimension)
        self.views, self.rotation_views = self.base.policy(settings.views), self.base.policy(settings.rotation_views)
        self.register_buffer("targets", balanced_targets(len(images), problem.labelled.classes, settings.share))
        check_length(settings, len(images))

    @property
    def phases(self) -> Phases:
        """The order of the epochs."""
        chosen = self.settings
        return Phases(chosen.warmup_epochs, chosen.ssl_epochs, chosen.rotation_epochs, chosen.cluster_epochs)

    @property
    def progress(self) -> Progress:
        """Position in the run; the base is told its position among its own steps, of which its schedules are functions.

        The loop sets it.
        """
        return self._progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self._progress = progress
        self.base.progress = self.phases.among_semisupervised(progress)

    @property
    def network(self) -> Network:
        """The network that all phases train."""
        return self.base.network

    def phase(self) -> Phase:
        """The phase of the current epoch."""
        return self.phases.at(self.progress)

    def rate(self, name: str) -> float:
        """That of the semi-supervised method."""
        return self.base.rate(name.removeprefix("base."))

    def multipliers(self) -> Multipliers:
        """Set the learning rate and the weight decay of rotation and clustering."""
        if self.phase() == "semisupervised":
            return self.base.multipliers()
        settings, optimizer = self.settings, self.settings.fit.optimizer
        done = self.phases.clusterings(self.progress)
        halved = 0.5 ** sum(done >= milestone for milestone in settings.lr_milestones)
        decay = settings.weight_decay / optimizer.weight_decay if optimizer.weight_decay else 1.0
        return Multipliers(lr=settings.lr * halved / optimizer.lr, weight_decay=decay)

    def schedule_factor(self, schedule: ScheduleSettings) -> float:
        """By the place in the run, or among its semi-supervised epochs; then it is 1 in the other epochs."""
        if self.settings.schedule_over == "all":
            return super().schedule_factor(schedule)
        return self.base.schedule_factor(schedule) if self.phase() == "semisupervised" else 1.0

    def draw_views(self, batch: Pair, generator: torch.Generator) -> Any:
        """Those of the current phase."""
        phase, image = self.phase(), batch.unlabelled.image
        if phase == "semisupervised":
            return self.base.draw_views(batch, generator)
        if phase == "rotation":
            return torch.cat([self.rotation_views(image, generator).rot90(quarter, (2, 3)) for quarter in range(4)])
        return plain(image), self.views(image.repeat(self.settings.copies, 1, 1, 1), generator)

    def views_form(self) -> Hashable | None:
        """The current phase, and the form of the semi-supervised method's views in its own."""
        phase = self.phase()
        form = self.base.views_form() if phase == "semisupervised" else ""
        return None if form is None else (phase, form)

    def losses(self, batch: Pair, views: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of the current phase; only the semi-supervised one uses labels."""
        phase = self.phase()
        if phase == "semisupervised":
            return self.base.losses(batch, views, generator)
        if phase == "rotation":
            return self._rotation(views, len(batch.unlabelled))
        return self._clustering(batch.unlabelled, *views)

    def _rotation(self, rotated: Tensor, images: int) -> dict[str, Tensor]:
        """RotNet (arXiv:1803.07728): predict by which of four angles an image was rotated.

        rotated: first all images rotated by 0°. images: their number, of all processes.
        """
        angle = torch.arange(4, device=rotated.device).repeat_interleave(images)
        logits = self.rotation(self.network.features(rotated)).float()
        loss = F.cross_entropy(logits, angle)
        return {"loss": loss, "rotation": loss, "rotation_acc": (logits.argmax(dim=1) == angle).float().mean()}

    def _clustering(self, batch: Batch, images: Tensor, copies: Tensor) -> dict[str, Tensor]:
        """Algorithm 1: reassign the batch's targets (eq. 4), then learn them from views of the images (eq. 5).

        images: without augmentation. copies: r views of them, first all images' first one.
        """
        settings, index = self.settings, batch.index
        with torch.no_grad():
            anchors = F.normalize(self.network.eval()(images).float(), dim=1)
            self.network.train()
        before = self.targets[index]
        # One read for both, which waits for the device: the assignment is computed on the CPU.
        read, size = torch.cat([anchors, before[:, None]], dim=1).cpu(), settings.cluster_batch or len(batch)
        found = exchange(read[:, :-1], read[:, -1].long(), size=size, distance=settings.distance)
        self.targets[index] = after = on_device(found, index.device)
        outputs = F.normalize(self.network(copies).float(), dim=1)
        terms = clustering(
            outputs.view(settings.copies, len(batch), -1),
            after,
            radius=settings.radius,
            anchors=anchors,
            distance=settings.distance,
            reduction=settings.reduction,
        )
        moved = (before != after).float().mean()
        return {"loss": terms["loss"], "clustering": terms["loss"], "kept": terms["kept"], "moved": moved}

    def chance_loss(self) -> float | None:
        """In the phase of the last step: ln 4, the base's value, or 2 - 2 / sqrt(K), the last divided by K for a mean.

        The elements of the clustering's outputs are then equal, and their distance to a target is that of its unit
        vector.
        """
        phase, clusters = self.phases.at(self.progress.before), self.base.labelled.classes
        if phase == "rotation":
            return log(4)
        if phase == "semisupervised":
            return self.base.chance_loss()
        return (2 - 2 / sqrt(clusters)) / (clusters if self.settings.reduction == "mean" else 1)

    def after_step(self) -> None:
        """Update the averaged weights, in the phases of `average_in`."""
        if self.settings.average_in == "all" or self.phases.at(self.progress.before) == "semisupervised":
            self.base.after_step()

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """The monitors of the semi-supervised method."""
        return self.base.after_epoch(terms)

    def selected(self) -> Network:
        """The network to keep."""
        return self.base.selected()


def check_length(settings: Settings, images: int) -> None:
    """Print a line if the run ends before its first clustering; raise UserError if it ends before its first label."""
    fit, warmup = settings.fit, settings.warmup_epochs
    epochs = fit.epochs if fit.steps is None else fit.steps / max(1, images // fit.batch)
    before = warmup + settings.ssl_epochs + settings.rotation_epochs
    if epochs <= warmup:
        raise UserError(
            f"semisup.alternation.fit.epochs: {epochs:g} found, expected more than warmup_epochs, {warmup}, in which "
            "no label is learned"
        )
    if epochs <= before:
        same = "" if warmup or epochs > settings.ssl_epochs else f", so the model is that of semisup.{settings.base}"
        info(
            f"semisup.alternation: {epochs:g} epochs end before the first clustering, after {before}{same}; "
            "raise fit.epochs or lower ssl_epochs"
        )


def exchange(outputs: Tensor, targets: Tensor, *, size: int, distance: Distance) -> Tensor:
    """Targets, int64 [b], after each `size` consecutive images have exchanged theirs (eq. 4).

    outputs: [b, K], unit rows. targets: int64 [b], clusters or NONE.
    """
    after = torch.full_like(targets, NONE)
    for start in range(0, len(targets), size):
        own = targets[start : start + size]
        present = own[own != NONE]
        after[start + assign_targets(outputs[start : start + size], present, distance=distance)] = present
    return after


def balanced_targets(images: int, clusters: int, share: float) -> Tensor:
    """Targets, int64 [images]: share · images / clusters of each cluster at random places, else NONE (eq. 3)."""
    each = int(share * images / clusters)
    targets = torch.full((images,), NONE)
    targets[torch.randperm(images)[: each * clusters]] = torch.arange(clusters).repeat_interleave(each)
    return targets
