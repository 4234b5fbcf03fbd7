"""SCAN's clustering step (Van Gansbeke et al. 2020, section 2.2): an image and its neighbours share a cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.batches import Batch
from sslpipe.data.images import Images
from sslpipe.engine import world
from sslpipe.engine.loop import FitSettings
from sslpipe.engine.method import Method
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative
from sslpipe.neighbors.merging import merge
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.nets.inference import infer
from sslpipe.nets.merged import MergedHead
from sslpipe.nets.network import Network
from sslpipe.objectives.scan import scan
from sslpipe.views.policies import Views, ViewSettings

LOSS_SHARE = 0.01
"""Of a step in the moving average of each head's training loss (own choice: some hundred steps count)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the SCAN paper, section 3.1."""

    clusters: Count
    """C; more than there are classes is over-clustering (section 3.4)."""
    merge_to: Count | None = None
    """Groups that are left: clusters joined by many neighbour links become one (own choice; an over-clustering finds
    small and lopsided groups that as many clusters as classes would share out). null: the clusters are the groups."""
    heads: Count = 1
    """Cluster heads on one backbone, of which one is kept (public code: 10 on ImageNet)."""
    head_by: Literal["held_out", "train"] = "held_out"
    """The loss that chooses the head, at the epoch of its lowest held-out loss. A head that has merged two groups and
    split a third one differs by little; a few hundred held-out images are too few to see it, the training images are
    not, and all heads fit them alike (own choice)."""
    neighbors: CountOrZero = 5
    """K of the mined neighbours; 0: another view of the image itself (section 2.2)."""
    entropy_weight: NonNegative = 2.0
    """λ of eq. 2."""
    head_epochs: CountOrZero = 0
    """First epochs (or intervals) in which heads learn alone, on the cached features of the mined images and without
    views; then the whole network does. As many as `fit.epochs`: the backbone stays as it is (ImageNet's way in the
    public code).
    A few keep a short run from forgetting the pretext features for the heads' first, random groups (own choice)."""
    backbone_rate: Fraction = 1.0
    """Factor on the backbone's learning rate (own choice where it is not 1)."""
    views: ViewSettings = ViewSettings(policy="strong")
    """Of anchors and neighbours alike (table 1: strong 72.5, standard 62.7 on CIFAR-10)."""
    fit: FitSettings = FitSettings(
        epochs=100,
        batch=128,
        optimizer=OptimizerSettings(name="adam", lr=1e-4, weight_decay=1e-4, decay_all=True),
    )


@dataclass(frozen=True)
class Neighborhood:
    """Images of one split with their mined neighbours."""

    images: Images
    neighbors: Tensor
    """int64 [N, K], on the images' device."""
    features: Tensor | None = None
    """[N, D], the cached features, where heads learn on them."""


class Clustering(Method):
    """Algorithm 1, lines 6 to 8, for H heads; keeps the weights of the lowest held-out loss and one head."""

    best_loss: Tensor
    best_head: Tensor
    epochs: Tensor
    train_losses: Tensor

    def __init__(self, settings: Settings, network: Network, train: Neighborhood, held_out: Neighborhood) -> None:
        """network: with the pretext weights; its head is replaced. held_out: neighbours mined among themselves."""
        super().__init__()
        if settings.clusters > len(train.images):
            raise UserError(f"cluster.clusters: {settings.clusters} asked, {len(train.images)} images there")
        if settings.merge_to is not None and not (settings.neighbors and settings.merge_to <= settings.clusters):
            raise UserError(
                f"cluster.merge_to: {settings.merge_to} of {settings.clusters} clusters with {settings.neighbors} "
                "neighbors asked, expected at most as many as clusters, and neighbors"
            )
        self.settings = settings
        self.network = network
        network.head = ClusterHeads(
            network.backbone.dimension, ClusterSettings(clusters=settings.clusters, heads=settings.heads)
        )
        self.views = Views(settings.views, network.image_mean)
        self.train_set, self.held_out = train, held_out
        for name, value in network.state_dict().items():
            self.register_buffer(_best(name), value.clone())
        self.register_buffer("best_loss", torch.tensor(float("inf")))
        self.register_buffer("best_head", torch.tensor(0))
        self.register_buffer("epochs", torch.tensor(0))
        self._epochs_done: int | None = None  # read from the buffer once an epoch, since that waits for the device
        # Of each head, a moving average over steps.
        self.register_buffer("train_losses", torch.zeros(settings.heads))

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Eq. 2 on a batch: each image with one of its neighbours, drawn anew, summed over heads."""
        anchors, neighbors = self._logits(batch, self._draw_neighbors(batch, generator), generator)
        terms = scan(anchors, neighbors, entropy_weight=self.settings.entropy_weight)
        self.train_losses.lerp_(terms["loss"].detach(), LOSS_SHARE)
        return {name: value.sum() if name == "loss" else value.mean() for name, value in terms.items()}

    def rate(self, name: str) -> float:
        """Heads learn at the full rate, the backbone at its part of it."""
        return self.settings.backbone_rate if name.startswith("network.backbone.") else 1.0

    def _draw_neighbors(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """[B] indices, one of each image's K neighbours, or the image itself for K = 0."""
        if self.settings.neighbors == 0:
            return batch.index
        shape = (len(batch.index), 1)
        choice = torch.randint(self.settings.neighbors, shape, generator=generator, device=batch.index.device)
        return self.train_set.neighbors[batch.index].gather(1, choice)[:, 0]

    def _logits(self, batch: Batch, neighbors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """[H, B, C] of the images and of their neighbours, in one forward."""
        if self._heads_alone():
            assert self.train_set.features is not None
            logits = self.network.head(self.train_set.features[torch.cat([batch.index, neighbors])])
        else:
            images = torch.cat([batch.image, self.train_set.images[neighbors]])
            logits = self.network(self.views(images, generator))
        anchor, neighbor = logits.float().chunk(2, dim=1)
        return (
            world.gather(anchor.transpose(0, 1)).transpose(0, 1),
            world.gather(neighbor.transpose(0, 1)).transpose(0, 1),
        )

    @torch.no_grad()
    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Score every head on the held-out images and keep the best epoch so far (section 3.1: the lowest loss)."""
        logits = self._held_out_logits()
        itself = torch.arange(logits.shape[1], device=logits.device)[None]
        # Eq. 2's first term over all neighbours of all held-out images; each row holds one neighbour of every image.
        rows = self.held_out.neighbors.T if self.settings.neighbors else itself
        losses = torch.stack(
            [scan(logits, logits[:, row], entropy_weight=self.settings.entropy_weight)["loss"] for row in rows]
        ).mean(dim=0)
        head = (losses if self.settings.head_by == "held_out" else self.train_losses).argmin()
        loss = losses[head]
        # While heads learn alone before the network does, no epoch is a candidate but their last.
        candidate = (
            self.epochs + 1 >= self.settings.head_epochs or self.settings.head_epochs >= self.settings.fit.epochs
        )
        if candidate and loss < self.best_loss:
            self.best_loss.copy_(loss)
            self.best_head.copy_(head)
            for name, value in self.network.state_dict().items():
                self.get_buffer(_best(name)).copy_(value)
        self.epochs += 1
        self._epochs_done = None
        used = logits[head].argmax(dim=1).bincount().count_nonzero()
        return {"held_out/loss": loss.item(), "held_out/clusters": used.item()}

    def _held_out_logits(self) -> Tensor:
        """[H, M, C] of the held-out images as they are."""
        if self._heads_alone():
            assert self.held_out.features is not None
            return self.network.head(self.held_out.features).float()  # type: ignore[no-any-return]
        return infer(self.network.eval(), self.held_out.images, dim=1)

    def _heads_alone(self) -> bool:
        if self._epochs_done is None:
            self._epochs_done = int(self.epochs)
        return self._epochs_done < self.settings.head_epochs

    def selected(self) -> Network:
        """The network with the weights of the best epoch and its best head alone, its clusters merged if asked."""
        self.network.load_state_dict({name: self.get_buffer(_best(name)) for name in self.network.state_dict()})
        assert isinstance(self.network.head, ClusterHeads)
        head = self.network.head = self.network.head.single(int(self.best_head))
        if self.settings.merge_to is not None:
            answer = infer(self.network.eval(), self.train_set.images).argmax(dim=1).cpu().numpy()
            groups = np.zeros(self.settings.clusters, dtype=np.int64)  # of empty clusters at the end, too
            found = merge(answer, self.train_set.neighbors.cpu().numpy(), clusters=self.settings.merge_to)
            groups[: len(found)] = found
            self.network.head = MergedHead.of(head, groups.tolist())
        return self.network


def _best(name: str) -> str:
    """A buffer's name may hold no dot."""
    return "best_" + name.replace(".", "__")


def read_neighborhood(images: Images, folder: Path, settings: Settings, *, k: int | None) -> Neighborhood:
    """The first k mined neighbours of a split's images (all for None), and the cached features if heads alone learn.

    folder: what mine-neighbors wrote for the split. Raises UserError where it does not fit the images or holds fewer
    neighbours than are asked for.
    """
    indices = read_array(folder / "indices.npy")
    if len(indices) != len(images):
        raise UserError(f"{folder / 'indices.npy'}: {len(indices)} rows found, expected {len(images)}, one an image")
    if k is not None and indices.shape[1] < k:
        raise UserError(f"cluster.neighbors: {k} asked, {indices.shape[1]} mined; raise mine_neighbors.k")
    neighbors = torch.from_numpy(indices[:, :k]).to(images.device)
    features = None
    if settings.head_epochs:
        features = torch.from_numpy(read_array(folder / "features.npy")).to(images.device)
    return Neighborhood(images, neighbors, features)
