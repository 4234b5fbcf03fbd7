"""TEMI (Adaloglou et al. 2023, arXiv:2303.17896): self-distillation of several heads on stored features.

The network is not trained: it is that of the start, with the best of the teacher's heads.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sslpipe.engine.schedules import ScheduleSettings, factor
from sslpipe.io.console import info, progress
from sslpipe.io.settings import BelowOne, Count, NonNegative, Positive, Range, TwoOrMore
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._distillation import Distillation
from sslpipe.methods.cluster._inputs import Inputs, fit_inputs
from sslpipe.methods.cluster._levels import LevelsSettings
from sslpipe.methods.cluster._on_features import OnFeatures
from sslpipe.nets.cosine_heads import CosineHeads, CosineSettings
from sslpipe.nets.heads import Head

PUBLISHED_STEPS = 9_700
"""Steps of the published run on CIFAR-10."""
FEW_STEPS = 3_000
"""Steps below which a line says that they are few (own choice, see docs/results.md)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the paper and its public code on CIFAR-10."""

    clusters: TwoOrMore
    """Number of clusters. More: smaller and finer groups, which may split a class."""
    heads: TwoOrMore = 16
    """H, number of heads, which differ in their initial weights (public code: 16; the paper: 50). More: steadier
    weights of the pairs and a better best head, in proportionally more time."""
    max_neighbors: Count = 50
    """Mined neighbours of each image, at most, of which one is drawn in a step. More: links between more distant
    images, more of them wrong."""
    beta: Annotated[float, Range(above=0, high=1)] = 0.6
    """β, the power of the probabilities in the mutual information. Larger: a stronger push towards certain
    predictions."""
    components: Count | None = None
    """Number of principal components of the standardised features that the heads see, divided by their common standard
    deviation; null: the standardised features themselves, as published. More: finer differences between images, also
    of no interest, and slower."""
    hidden: Count = 512
    """Width of the heads' hidden layer. Larger: more capacity, slower."""
    embedding: Count = 256
    """Dimension of the unit embedding that is compared with the clusters' prototypes. Larger: more capacity, slower."""
    temperature: Positive = 0.1
    """Temperature of the softmax of student and teacher. Larger: less certain predictions."""
    epochs: Count = 100
    """Passes over the training images; 100 are 9,700 steps of 512 pairs on CIFAR-10, but 300 on 1,600 images, which are
    too few: take more epochs or smaller batches there. More: a lower loss, in proportionally more time."""
    warmup_epochs: NonNegative = 20.0
    """Epochs in which the learning rate rises linearly from 0; it is constant afterwards. Larger: a gentler start, and
    less of the run at the full rate."""
    batch: Count = 512
    """Pairs of an image and a neighbour in a step (public code: 1,024). Larger: less noise in a step, and fewer
    steps."""
    lr: Positive = 1e-4
    """Learning rate of AdamW after the warm-up. Larger: faster learning, until the heads no longer settle."""
    weight_decay: NonNegative = 1e-4
    """Weight decay of AdamW. Larger: smaller weights."""
    ema_decay: BelowOne = 0.996
    """Decay of the teacher's averaged weights. Larger: a teacher that changes more slowly."""
    marginal_momentum: BelowOne = 0.9
    """Momentum of the clusters' mean probabilities. Larger: a mean over more batches, which
    follows the teacher later."""
    compare: CompareSettings = CompareSettings()
    """The comparison of the model with plain baselines."""
    levels: LevelsSettings = LevelsSettings()
    """How the groups merge into fewer."""
    fit: None = None
    """There is no training loop of the engine: all heads are trained at once, on stored features."""


class Method(OnFeatures[Settings]):
    """The start's network with the teacher's head that has the lowest mean loss in the last epoch."""

    collapse_hint = "lower cluster.temi.beta, or choose another cluster.method or cluster.clusters"

    def find(self) -> tuple[Head, dict[str, float]]:
        """Train all heads; return the teacher's best one, and the losses of all."""
        settings = self.settings
        inputs = fit_inputs(self.features, settings.components, self.train_set.neighbors.device)
        shape = CosineSettings(
            outputs=settings.clusters,
            hidden=settings.hidden,
            embedding=settings.embedding,
            temperature=settings.temperature,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            heads = CosineHeads(inputs.dimension, settings.heads, shape).to(inputs.mean.device)
        training = Distillation(
            heads,
            beta=settings.beta,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            ema_decay=settings.ema_decay,
            marginal_momentum=settings.marginal_momentum,
        )
        losses = self._train(training, inputs)
        best = training.teacher.module.single(
            int(losses.argmin()), mean=inputs.mean, deviation=inputs.deviation, basis=inputs.basis
        )
        columns = {"best": losses.min(), "mean": losses.mean(), "worst": losses.max()}
        return best.cpu(), {f"loss/{name}": value.item() for name, value in columns.items()}

    def _train(self, training: Distillation, inputs: Inputs) -> Tensor:
        """Train on all images in each epoch, but for those that fill no batch; return the last epoch's losses, [H]."""
        settings, count = self.settings, len(self.features)
        neighbors = self._neighbors()
        size = min(settings.batch, count)
        steps = count // size
        if settings.epochs * steps < FEW_STEPS and not self.is_baseline:
            info(
                f"cluster.temi: {settings.epochs * steps} steps are few, the published run has {PUBLISHED_STEPS}; "
                "raise cluster.temi.epochs or lower cluster.temi.batch, or choose scan_heads, which needs fewer"
            )
        schedule = ScheduleSettings(name="constant", warmup_epochs=settings.warmup_epochs)
        generator = torch.Generator().manual_seed(self.seed)
        device = inputs.mean.device
        losses = torch.zeros(settings.heads, device=device)
        with progress("" if self.is_baseline else "cluster.temi", settings.epochs, "epochs") as bar:
            for epoch in range(settings.epochs):
                losses.zero_()
                batches = torch.randperm(count, generator=generator)[: steps * size].view(steps, size)
                for number, index in enumerate(batches):
                    choice = torch.randint(neighbors.shape[1], (size,), generator=generator)
                    rows = self._rows(torch.cat([index, neighbors[index, choice]])).to(device)
                    scale = factor(schedule, epoch * steps + number, settings.epochs * steps, steps)
                    losses += training.step(inputs.of(rows), factor=scale) / steps
                bar.advance(note=f"loss {losses.mean().item():.3g}")
        return losses

    def _neighbors(self) -> Tensor:
        """Return at most `max_neighbors` mined neighbours of each image on the CPU, where pairs are drawn."""
        mined, asked = self.train_set.neighbors.shape[1], self.settings.max_neighbors
        if mined < asked and not self.is_baseline:
            info(
                f"cluster.temi.max_neighbors: {asked} asked, {mined} mined, all of which are used; "
                "raise mine_neighbors.k for more"
            )
        return self.train_set.neighbors[:, :asked].cpu()

    def _rows(self, index: Tensor) -> Tensor:
        """Return the features of some images, [B, D], as they are stored."""
        if isinstance(self.features, Tensor):
            return self.features[index.to(self.features.device)]
        return torch.from_numpy(self.features[index.numpy()])
