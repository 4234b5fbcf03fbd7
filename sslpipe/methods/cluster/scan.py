"""SCAN's clustering step (Van Gansbeke et al. 2020, arXiv:2005.12320, section 2.2): neighbours share a cluster."""

from collections.abc import Hashable
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.batches import Batch, Needs
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, TwoOrMore
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._levels import LevelsSettings
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.neighbors.merging import merge
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.nets.inference import infer
from sslpipe.nets.merged import MergedHead
from sslpipe.nets.network import Network
from sslpipe.nets.passes import BatchStatistics
from sslpipe.nets.tuning import KEPT, Statistics, keep_statistics
from sslpipe.objectives.scan import scan
from sslpipe.views.policies import Views, ViewSettings

LOSS_SHARE = 0.01
"""Weight of a step in the moving average of each head's training loss (own choice: about the last hundred steps)."""
CHUNK = 1024
"""Held-out images whose products of probabilities are computed at a time (own choice)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the SCAN paper, section 3.1."""

    clusters: TwoOrMore
    """C, the number of clusters; more than there are classes is over-clustering (section 3.4). More: smaller and finer
    groups, which may split a class."""
    merge_to: TwoOrMore | None = None
    """Number of groups after merging clusters that many neighbour links join (own choice; over-clustering finds small
    and unbalanced groups that as many clusters as classes would split). null: the clusters are not merged. More: fewer
    clusters are merged, so finer groups remain."""
    heads: Count = 1
    """Number of cluster heads on the backbone; one of them is kept (public code: 10 on ImageNet). More: a better best
    one, slower."""
    select_head_by: Literal["held_out", "train"] = "held_out"
    """The loss that selects the head. The losses of a head that merges two groups and splits a third one differ little
    from those of the others: a few hundred held-out images are too few to measure it, the training images are not, and
    all heads fit them equally well (own choice)."""
    neighbors: CountOrZero = 5
    """K of the mined neighbours; 0: another view of the image itself (section 2.2). More: links between more distant
    images, more of them wrong."""
    pair_with_itself: bool = False
    """Whether an image is one of its own K + 1 neighbours (public code); section 2.2: K others. true: fewer pairs are
    wrong, and other images are learned from less."""
    entropy_weight: NonNegative = 2.0
    """λ of eq. 2 (section 3.1: 2; public code: 5). Larger: clusters of more equal sizes, and no early collapse to a
    few; at 0 all images may end in one."""
    held_out_entropy_weight: NonNegative | None = None
    """λ of the loss on held-out images, which selects epoch and head; null: entropy_weight (public code: 1). Larger:
    epochs and heads with clusters of equal sizes are preferred."""
    head_epochs: CountOrZero = 0
    """First epochs in which only the heads are trained; then the whole network is trained. With as many as `fit.epochs`
    the backbone stays frozen (public code, ImageNet). A few protect the pretext features in a short run from the
    gradients of the random heads (own choice). More: the heads are further when the backbone starts, which then has
    fewer epochs."""
    head_inputs: Literal["features", "views"] = "features"
    """What the heads alone learn from. features: the cached features of the images, computed once (own choice). views:
    the features of new views in every step, with the network in eval mode (public code, ImageNet)."""
    backbone_rate: Fraction = 1.0
    """Factor on the backbone's learning rate (own choice where it is not 1). Larger: the backbone moves further from
    its pretext features; 0: not at all."""
    views: ViewSettings = ViewSettings(policy="strong")
    """Views of anchors and of neighbours (table 1: strong 72.5, standard 62.7 on CIFAR-10)."""
    batch_statistics: BatchStatistics = "joint"
    """joint: images and neighbours share a forward pass and its batch statistics. separate: each have their own (public
    code)."""
    statistics: Statistics | None = None
    """What the backbone's batch norms normalise by once it is trained: the images of the batch, which their running
    statistics then follow (the paper), or the running statistics of the start, which stay. null: start for a published
    network, whose features batches distort (docs/few-labels.md), batch for others."""
    compare: CompareSettings = CompareSettings()
    """The comparison of the model with plain baselines."""
    levels: LevelsSettings = LevelsSettings()
    """How the groups merge into fewer."""
    fit: FitSettings = FitSettings(
        epochs=100,
        batch=128,
        optimizer=OptimizerSettings(name="adam", lr=1e-4, weight_decay=1e-4, decay_all=True),
    )


class Method(BaseMethod):
    """SCAN, algorithm 1, lines 6 to 8, for H heads; keeps the weights at the lowest held-out loss, and one head."""

    collapse_hint = "lower cluster.scan.fit.optimizer.lr or raise cluster.scan.entropy_weight"

    best_loss: Tensor
    best_head: Tensor
    train_losses: Tensor

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        network, train = problem.network, problem.train
        if settings.clusters > len(train.images):
            raise UserError(f"cluster.clusters: {settings.clusters} is more than {len(train.images)} training images")
        if settings.merge_to is not None and not (settings.neighbors and settings.merge_to <= settings.clusters):
            raise UserError(
                f"cluster.scan.merge_to: {settings.merge_to} of {settings.clusters} clusters with {settings.neighbors} "
                "neighbors is set, expected at most as many as clusters, and neighbors"
            )
        if check_length(settings, len(train.images)) and keep_statistics(network, settings.statistics):
            info(f"cluster.scan: {KEPT} (cluster.scan.statistics)")
        self.settings = settings
        self.network = network
        network.head = ClusterHeads(
            network.backbone.dimension, ClusterSettings(clusters=settings.clusters, heads=settings.heads)
        )
        self.views = Views(settings.views, network.image_mean, side=network.side, resize=network.resize)
        self.train_set: Neighborhood = train
        self.held_out: Neighborhood = problem.held_out
        self._candidates = train.neighbors.cpu()
        for name, value in network.state_dict().items():
            self.register_buffer(_best(name), value.clone())
        self.register_buffer("best_loss", torch.tensor(float("inf")))
        self.register_buffer("best_head", torch.tensor(0))
        # Of each head, a moving average over steps.
        self.register_buffer("train_losses", torch.zeros(settings.heads))

    def draw_neighbors(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Return one of each image's candidates; the image itself for K = 0. All are int64 [B] indices on the CPU."""
        if self.settings.neighbors == 0:
            return index
        candidates = self._candidates[index]
        if self.settings.pair_with_itself:
            candidates = torch.cat([index[:, None], candidates], dim=1)
        choice = torch.randint(candidates.shape[1], (len(index), 1), generator=generator)
        return candidates.gather(1, choice)[:, 0]

    def needs(self) -> Needs:
        """A neighbour of each image, and the images unless the heads learn from stored features."""
        return Needs(images=self._learns_views, neighbors=self.draw_neighbors)

    def _learns_views(self, step: int) -> bool:
        """Whether views are learned from in a step, not stored features."""
        return not (self._heads_alone(step) and self.settings.head_inputs == "features")

    def draw_views(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """Views of the images and of their neighbours, one after the other; None if the heads learn from features."""
        if not self._learns_views(self.progress.step):
            return None
        assert batch.neighbor_image is not None
        return self.views(torch.cat([batch.image, batch.neighbor_image]), generator)

    def views_form(self) -> Hashable | None:
        """Whether there are views."""
        return self._learns_views(self.progress.step)

    def losses(self, batch: Batch, views: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Eq. 2 for each image and a random one of its neighbours, summed over heads."""
        logits = self._logits_of_features(batch) if views is None else self._logits_of_views(views)
        anchors, neighbors = logits.float().chunk(2, dim=1)
        terms = scan(anchors, neighbors, entropy_weight=self.settings.entropy_weight)
        self.train_losses.lerp_(terms["loss"].detach(), LOSS_SHARE)
        return {name: value.sum() if name == "loss" else value.mean() for name, value in terms.items()}

    def chance_loss(self) -> float:
        """All C clusters are equally likely: (1 - λ) ln C of each of the H heads, whose losses are added."""
        settings = self.settings
        return settings.heads * (1 - settings.entropy_weight) * log(settings.clusters)

    def rate(self, name: str) -> float:
        """The factor on the learning rate: 1 for heads, `backbone_rate` for the backbone."""
        return self.settings.backbone_rate if name.startswith("network.backbone.") else 1.0

    def _logits_of_features(self, batch: Batch) -> Tensor:
        """[H, 2B, C] of the stored features of the images and of their neighbours."""
        assert isinstance(self.train_set.features, Tensor)
        assert batch.neighbor is not None
        logits: Tensor = self.network.head(self.train_set.features[torch.cat([batch.index, batch.neighbor])].float())
        return logits

    def _logits_of_views(self, views: Tensor) -> Tensor:
        """[H, 2B, C] of the views of the images and of their neighbours, in one forward."""
        heads_alone = self._heads_alone(self.progress.step)
        self.network.train(not heads_alone)
        with torch.set_grad_enabled(not heads_alone):
            features = self.network.features_of(views.chunk(2), self.settings.batch_statistics)
        logits: Tensor = self.network.head(torch.cat(features))
        return logits

    @torch.no_grad()
    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Compute the held-out loss and keep the weights at the lowest loss so far (section 3.1).

        Of every head if it selects the head, else of the head that the training loss selects.
        """
        settings, features = self.settings, self._held_out_features()
        by_held_out = settings.select_head_by == "held_out"
        chosen = settings.held_out_entropy_weight
        weight = settings.entropy_weight if chosen is None else chosen
        neighbors = self.held_out.neighbors if settings.neighbors else None
        found = {
            head: held_out_loss(self._logits_of(head, features), neighbors, entropy_weight=weight)
            for head in (range(settings.heads) if by_held_out else [int(self.train_losses.argmin())])
        }
        head = list(found)[int(torch.stack(list(found.values())).argmin())]
        loss = found[head]
        # Of the epochs in which only the heads are trained, the last one is a candidate.
        progress, head_epochs = self.progress, settings.head_epochs
        candidate = progress.epochs >= head_epochs or head_epochs * progress.steps_per_epoch >= progress.total
        if candidate and loss < self.best_loss:
            self.best_loss.copy_(loss)
            self.best_head.fill_(head)
            for name, value in self.network.state_dict().items():
                self.get_buffer(_best(name)).copy_(value)
        used = self._logits_of(head, features).argmax(dim=1).bincount().count_nonzero()
        return {"held_out/loss": loss.item(), "held_out/clusters": used.item()}

    def _held_out_features(self) -> Tensor:
        """Features [M, D] of the held-out images without augmentation, float32."""
        if self._heads_alone(self.progress.step - 1):
            assert isinstance(self.held_out.features, Tensor)
            return self.held_out.features.float()
        return infer(self.network.eval().features, self.held_out.images)

    def _logits_of(self, head: int, features: Tensor) -> Tensor:
        """Logits [M, C] of one head for features [M, D]."""
        heads = self.network.head
        assert isinstance(heads, ClusterHeads)
        logits: Tensor = heads.single(head)(features)
        return logits

    def _heads_alone(self, step: int) -> bool:
        """Whether only the heads are trained in a step."""
        return step < self.settings.head_epochs * self.progress.steps_per_epoch

    def watched(self) -> Network:
        """The network with its current weights, not those of the best epoch."""
        return self.network

    def selected(self) -> Network:
        """The network with the weights and the head of the best epoch, its clusters merged if set."""
        self.network.load_state_dict({name: self.get_buffer(_best(name)) for name in self.network.state_dict()})
        assert isinstance(self.network.head, ClusterHeads)
        head = self.network.head = self.network.head.single(int(self.best_head))
        if self.settings.merge_to is not None:
            prediction = infer(self.network.eval(), self.train_set.images).argmax(dim=1).cpu().numpy()
            groups = np.zeros(self.settings.clusters, dtype=np.int64)  # of empty clusters at the end, too
            merged = merge(prediction, self.train_set.neighbors.cpu().numpy(), clusters=self.settings.merge_to)
            groups[: len(merged)] = merged
            self.network.head = MergedHead.of(head, groups.tolist())
        return self.network


def check_length(settings: Settings, images: int) -> bool:
    """Return whether the run trains the whole network in the end; a line says if not, as on purpose on ImageNet."""
    fit, steps_per_epoch = settings.fit, max(1, images // settings.fit.batch)
    epochs = fit.epochs if fit.steps is None else fit.steps / steps_per_epoch
    if settings.head_epochs < epochs:
        return True
    info(
        f"cluster.scan: heads alone are trained, in all {epochs:g} epochs, and the backbone stays as it is "
        f"(head_epochs: {settings.head_epochs}); a lower head_epochs trains it as well"
    )
    return False


def held_out_loss(logits: Tensor, neighbors: Tensor | None, *, entropy_weight: float) -> Tensor:
    """Return the SCAN loss (eq. 2) of a head over all neighbours of all M images, a scalar.

    logits: [M, C]. neighbors: int64 [M, K]; None: each image's own. The log-probabilities are computed once, and
    products of probabilities for CHUNK images at a time, so that some 3 · M · C numbers are in memory.
    """
    log_p = logits.log_softmax(dim=1)
    own = torch.arange(len(log_p), device=log_p.device)
    columns = own[None] if neighbors is None else neighbors.T
    log_mean = torch.logsumexp(log_p, dim=0) - log(len(log_p))
    entropy = -(log_mean.exp() * log_mean).sum()
    losses = []
    for column in columns:
        parts = zip(torch.split(log_p, CHUNK), torch.split(column, CHUNK), strict=True)
        agreement = torch.cat([torch.logsumexp(part + log_p[others], dim=1) for part, others in parts])
        losses.append(-agreement.mean() - entropy_weight * entropy)
    return torch.stack(losses).mean()


def _best(name: str) -> str:
    """The name of the buffer that keeps a weight; it must not contain a dot."""
    return "best_" + name.replace(".", "__")
