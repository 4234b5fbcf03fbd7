"""The framework of Suave and Daino (Fini et al. 2023, section 3.2): prototypes of clusters that are those of classes.

One cross-entropy for labelled images and for unlabelled ones, whose targets a clustering δ assigns (eq. 1 to 3).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import one_hot

from sslpipe.data.labelled import Pair
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Fraction, Positive
from sslpipe.methods.parts.monitors import LinearMonitors, watched_layers
from sslpipe.methods.parts.task import Task
from sslpipe.methods.semisup import supervised
from sslpipe.nets.heads import PrototypeHead, PrototypeSettings, outputs
from sslpipe.nets.inference import infer
from sslpipe.objectives.supervised import cross_entropy, multi_task
from sslpipe.views.mixing import MixSettings, draw_mix
from sslpipe.views.policies import ViewSettings

MixUnlabelled = Literal["none", "global", "all"]
GLOBAL_CROPS = 2
"""Those that are assigned to prototypes."""

# Section A.1: SwAV's colours for unlabelled images, lighter ones for labelled images.
SWAV_COLORS = ViewSettings(
    policy="simclr", brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, crop_scale=(0.14, 1.0)
)
LABELLED = ViewSettings(policy="simclr", crop_scale=(0.08, 1.0))


@dataclass(frozen=True, kw_only=True)
class Settings(supervised.Settings):
    """What both share. Defaults: section A.1."""

    labelled_batch: Count = 128
    views: ViewSettings = LABELLED
    label_smoothing: Fraction = 0.01
    hidden: Count = 2048
    """Width of the projection's hidden layer."""
    outputs: Count = 128
    """Length of an embedding."""
    projection: Literal["drawn", "kept"] = "drawn"
    """Whether the start's projection, a pretext task's or a Suave model's, is taken over; the public code drops it for
    training and keeps it for fine-tuning. It has to be of that form: two layers, batch norm."""
    temperature: Positive = 0.1
    """τ of the predictions."""
    global_views: ViewSettings = SWAV_COLORS
    local_views: ViewSettings = replace(SWAV_COLORS, crop_scale=(0.08, 0.14))
    """`size` makes them small images (96 of 224 pixels)."""
    local_crops: CountOrZero = 8
    mixing: MixSettings = MixSettings()
    mix_labelled: bool = True
    """Add mixed labelled images to the labelled ones."""
    mix_unlabelled: MixUnlabelled = "global"
    """Add mixed crops, whose targets are interpolated likewise (all: CIFAR-100, section A.2)."""
    monitors: bool = True
    """Linear classifiers on backbone and projection layers, for the history."""


class MultiTask(supervised.Learner):
    """The pseudo-code of figure 2 with multi-crop and mixing (section 4)."""

    settings: Settings

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.global_views, self.local_views = self.policy(settings.global_views), self.policy(settings.local_views)
        self.monitors: LinearMonitors | None = None
        if settings.monitors:
            widths = {"backbone": task.network.backbone.dimension, "projection_1": settings.hidden}
            self.monitors = LinearMonitors({**widths, "projection_2": settings.outputs}, task.labelled.classes)

    def add_head(self, task: Task) -> None:
        """Projection and prototypes; a start's own prototypes are never kept.

        Where the start knows the classes, or with `head: fitted` a logistic regression on its features does, each
        prototype begins at the mean embedding of the images that are given its class.
        """
        network, settings = task.network, self.settings
        known = network.head
        head = PrototypeHead(
            network.backbone.dimension,
            PrototypeSettings(
                prototypes=task.labelled.classes,
                hidden=settings.hidden,
                outputs=settings.outputs,
                temperature=settings.temperature,
            ),
        ).to(network.mean.device)
        if settings.projection == "kept":
            keep_projection(head, known)
        if settings.head == "fitted" and supervised.add_classifier(network, task.labelled.classes):
            supervised.fit_classifier(network.head, task)
        if outputs(network.head) == task.labelled.classes:
            features = infer(network.eval().features, task.labelled.images)
            place_prototypes(head, features, network.head(features).argmax(dim=1))
        network.head = head

    @abstractmethod
    def assign(self, crops: Tensor, embeddings: Tensor) -> Tensor:
        """δ: targets [G, B, C] of the G global crops, and whatever the method remembers of them.

        crops: [G, B, …], the views. embeddings: [G, B, D], the student's, of length 1 and without gradient.
        """

    def losses(self, batch: Pair, generator: torch.Generator) -> dict[str, Tensor]:
        """Eq. 3: each term a mean over its predictions, weighted by their number."""
        labelled, truth = self._labelled(batch, generator)
        image, locals_ = batch.unlabelled.image, self.settings.local_crops
        crops = [self.global_views(image, generator) for _ in range(GLOBAL_CROPS)]
        crops += [self.local_views(image, generator) for _ in range(locals_)]
        to_mix = {"none": 0, "global": GLOBAL_CROPS, "all": len(crops)}[self.settings.mix_unlabelled]
        mixes = [
            draw_mix(self.settings.mixing, len(image), (c.shape[-2], c.shape[-1]), generator) for c in crops[:to_mix]
        ]
        mixed = [mix.images(crop) for mix, crop in zip(mixes, crops[:to_mix], strict=True)]

        views = [labelled, *crops, *mixed]
        sizes = [len(view) for view in views]
        layers = watched_layers(self.network, torch.cat(self.network.features_of(views)))
        embeddings = F.normalize(next(reversed(layers.values())).float(), dim=1)
        assert isinstance(self.network.head, PrototypeHead)
        logits = self.network.head.scores(embeddings) / self.settings.temperature
        seen, *predicted = torch.split(logits, sizes)
        own = torch.split(embeddings.detach(), sizes)[1 : 1 + GLOBAL_CROPS]
        with torch.no_grad():
            targets = self.assign(torch.stack(crops[:GLOBAL_CROPS]), torch.stack(own))

        known = cross_entropy(seen, truth, smoothing=self.settings.label_smoothing)
        swapped = self.swapped(targets, predicted[: len(crops)])
        terms, counts = [known, swapped], [len(seen), len(crops) * len(image)]
        if mixed:
            interpolated = [
                cross_entropy(logit, mix.targets(others(targets, view)))
                for view, (logit, mix) in enumerate(zip(predicted[len(crops) :], mixes, strict=True))
            ]
            terms.append(torch.stack(interpolated).mean())
            counts.append(len(mixed) * len(image))
        loss = multi_task(terms, counts)
        if self.monitors is not None:
            loss = loss + self.monitors.loss({name: layer[: len(seen)] for name, layer in layers.items()}, truth)
        share = targets.mean(dim=(0, 1)).max()
        return {"loss": loss, "labelled": known, "swapped": swapped, "largest_share": share}

    @abstractmethod
    def swapped(self, targets: Tensor, predicted: Sequence[Tensor]) -> Tensor:
        """Mean cross-entropy of each crop's prediction [B, C] under the targets [G, B, C] of the other global crops."""

    def _labelled(self, batch: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Views and targets [·, C] of the labelled images, and of their mixtures behind them."""
        views = self.views(batch.labelled.image, generator)
        truth = one_hot(batch.labelled.label, self.labelled.classes).float()
        if not self.settings.mix_labelled:
            return views, truth
        mix = draw_mix(self.settings.mixing, len(views), (views.shape[-2], views.shape[-1]), generator)
        return torch.cat([views, mix.images(views)]), torch.cat([truth, mix.targets(truth)])

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """As of any learner, and the monitors' accuracies."""
        row = super().after_epoch(terms)
        if self.watch and self.monitors is not None:
            row |= self.monitors.accuracies(self.network, self.watch)
        return row


def others(targets: Tensor, view: int) -> Tensor:
    """[B, C] mean target of the global crops other than this view; targets: [G, B, C]."""
    kept = [target for place, target in enumerate(targets) if place != view]
    return torch.stack(kept).mean(dim=0)


def keep_projection(head: PrototypeHead, known: nn.Module) -> None:
    """Take over the projection of a start's head; raises UserError where that has none of this form."""
    projection = known.projection if isinstance(known, PrototypeHead) else known
    found = {name: value.shape for name, value in projection.state_dict().items()}
    wanted = {name: value.shape for name, value in head.projection.state_dict().items()}
    if found != wanted:
        form = f"hidden {head.settings.hidden}, outputs {head.settings.outputs}, batch_norm, depth 2"
        raise UserError(f"projection: kept asked, but the start's head is no projection of {form}")
    head.projection.load_state_dict(projection.state_dict())


@torch.no_grad()
def place_prototypes(head: PrototypeHead, features: Tensor, given: Tensor) -> None:
    """Set each prototype to the mean embedding of the images that are given its class, seen from the mean of all.

    A prototype without images stays. head: its batch norms take their running statistics from these images, since a
    momentum encoder answers by them from the first step on. features: [N, D]. given: int64 [N].
    """
    norms = [layer for layer in head.modules() if isinstance(layer, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    embedding = head.train().embed(features)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    member = one_hot(given, head.settings.prototypes).float()
    count = member.sum(dim=0)
    means = F.normalize(member.T @ embedding / count.clamp(min=1)[:, None] - embedding.mean(dim=0), dim=1)
    head.prototypes.weight.copy_(torch.where(count[:, None] > 0, means, head.prototypes.weight))
