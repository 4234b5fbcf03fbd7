"""ProPos (Huang et al. 2022, arXiv:2111.11821): BYOL with far prototypes of clusters and with sampled neighbours."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, log

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data import world
from sslpipe.data.batches import Batch
from sslpipe.data.seeds import mix
from sslpipe.engine.method import Progress
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.errors import UserError
from sslpipe.io.settings import NonNegative, Positive, TwoOrMore
from sslpipe.methods.pretrain._base import Problem
from sslpipe.methods.pretrain._target import TargetMethod, TargetSettings
from sslpipe.metrics.kmeans import KMeansSettings, kmeans
from sslpipe.nets.inference import infer
from sslpipe.nets.passes import forward_groups
from sslpipe.objectives.byol import regression
from sslpipe.objectives.propos import scattering
from sslpipe.views.policies import ViewSettings

WHERE = "pretrain.propos"
VIEWS = ViewSettings(policy="simclr", crop_scale=(0.08, 1.0))
SEEDS = 2**31
"""Number of seeds that k-means is given one of."""


@dataclass(frozen=True, kw_only=True)
class Settings(TargetSettings):
    """Defaults: the public code's for CIFAR-10 and ResNet-18; its rising τ is that of the other data sets."""

    clusters: TwoOrMore
    """Number of clusters, in the paper that of the classes. More: smaller clusters, which may split a class, and fewer
    images of each in a batch."""
    temperature: Positive = 0.5
    """τ that divides the cosines of prototypes. Larger: all pairs of prototypes count more alike, not the nearest ones
    above all."""
    scattering_weight: NonNegative = 0.1
    """λ, the weight of the prototype scattering loss. Larger: clusters are farther apart, also those that split a
    class."""
    noise: NonNegative = 0.001
    """σ, the standard deviation of the Gaussian noise that makes a neighbour of a projection, the sampled positive.
    Larger: wider neighbourhoods become one point, in the end those of different classes too."""
    warmup_epochs: NonNegative = 50.0
    """First epochs, in which neither prototypes are scattered nor neighbours sampled. More: clusters of better
    features, for a shorter part of the run."""
    predictor_rate: Positive = 10.0
    """Factor on the learning rate of the predictor. Larger: a predictor that is nearer to its optimum for the network
    as it is, until it no longer settles."""
    kmeans: KMeansSettings = KMeansSettings(restarts=3)
    """Spherical k-means of all training images by the target network, at the end of each interval, by default an epoch
    (three restarts: own choice)."""
    views: ViewSettings = VIEWS
    second_views: ViewSettings = VIEWS
    fit: FitSettings = FitSettings(
        epochs=1000,
        batch=512,
        # 0.05 for each 256 images.
        optimizer=OptimizerSettings(name="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=50),
    )


@dataclass(frozen=True)
class Projections:
    """Unit projections of images, as k-means takes them."""

    rows: Tensor
    """[N, D]."""

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, index: Tensor) -> "Projections":
        """Return the projections of these images (int64 [L])."""
        return Projections(self.rows[index])

    def vectors(self) -> NDArray[np.float32]:
        """Return the projections as an array [N, D]."""
        return self.rows.numpy().astype(np.float32, copy=False)


class Method(TargetMethod):
    """ProPos: clusters are found between the intervals, and the network is trained with them within."""

    collapse_hint = "raise pretrain.propos.ema_decay, lower the learning rate, let the predictor have batch_norm"
    falling: Mapping[str, float] = {"alignment": -inf}
    """Scattering comes in after the first epochs, and raises the loss."""

    assigned: Tensor
    """Cluster of each training image, int64 [N]; before the first k-means all are in one, which scatters nothing."""
    seed: Tensor
    """Seed of all runs of k-means, int64 []."""

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__(settings, problem)
        if settings.clusters > (count := len(problem.images)):
            raise UserError(f"{WHERE}.clusters: {settings.clusters} found, expected at most the {count} images")
        self.settings = settings
        self.register_buffer("assigned", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("seed", torch.randint(SEEDS, ()))
        self._said = False

    def rate(self, name: str) -> float:
        """The factor on the learning rate: `predictor_rate` for the predictor."""
        return self.settings.predictor_rate if name.startswith("predictor.") else 1.0

    def losses(self, batch: Batch, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Alignment and scattering, each the mean over both orders of the views."""
        settings, statistics = self.settings, self.settings.batch_statistics
        first, second = forward_groups(self.network, views, statistics)
        first_target, second_target = forward_groups(self.target, views, statistics)
        sampled = [self._neighbor(projection, generator) for projection in (first, second)]
        # In bfloat16 the noise would be smaller than the rounding.
        with torch.autocast(first.device.type, enabled=False):
            predicted, second_predicted = forward_groups(self.predictor, sampled, statistics)
        alignment = (regression(predicted, second_target) + regression(second_predicted, first_target)) / 2
        cluster, temperature = self.assigned[batch.index], settings.temperature
        scatter = partial(scattering, cluster=cluster, clusters=settings.clusters, temperature=temperature)
        scattered = (scatter(first, second_target) + scatter(second, first_target)) / 2
        weight = settings.scattering_weight * self._is_active(self.progress)
        return {"loss": alignment + weight * scattered, "alignment": alignment, "scattering": scattered}

    def _neighbor(self, projection: Tensor, generator: torch.Generator) -> Tensor:
        """A point [B, D] near each projection [B, D]: the projection with Gaussian noise, itself during warm-up."""
        projection = projection.float()
        noise = torch.randn(projection.shape, generator=generator, device=projection.device)
        return projection + self.settings.noise * self._is_active(self.progress) * noise

    def _is_active(self, progress: Progress) -> bool:
        """Whether clusters and neighbours are used at a position in the run."""
        return progress.epochs >= self.settings.warmup_epochs

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Assign all training images to clusters; adds the share of the largest one to the diagnostics."""
        self._assign()
        share = self.assigned.bincount().max() / len(self.assigned)
        return {**super().after_epoch(terms), "largest_cluster": share.item()}

    def _assign(self) -> None:
        """Run k-means on the unit projections by the target network, without augmentation.

        Projections that are not finite change nothing; the run then ends by its loss or by its weights.
        """
        self.target.eval()
        projections = Projections(F.normalize(infer(self._projected, self.images), dim=1).cpu())
        if not projections.rows.isfinite().all():
            return
        seed = mix(int(self.seed), self.progress.step) % SEEDS
        settings = self.settings
        with warnings.catch_warnings():
            # Of fewer different vectors than clusters, which the diagnostics of a collapse report.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = kmeans(
                Projections.vectors,
                projections,
                projections,
                clusters=settings.clusters,
                settings=settings.kmeans,
                seed=seed,
                where=None if self._said else f"{WHERE}.kmeans",
            )
        self._said = True
        # Those of process 0, since sums of several threads may be rounded differently.
        self.assigned.copy_(world.of_all_processes(torch.from_numpy(found).to(self.assigned.device))[0])

    def _projected(self, images: Tensor) -> Tensor:
        """The target network's projections [B, D] of float images [B, C, H, W], each computed by one process."""
        count = len(images)
        if missing := -count % world.size():
            images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        with world.shared_batch():
            projections: Tensor = self.target(world.own(images))
        return projections[:count]

    def loss_at_chance(self) -> dict[str, float]:
        """Predictions and targets are orthogonal: 2."""
        return {"alignment": 2.0}

    def chance_loss(self) -> float:
        """Predictions and targets are orthogonal, 2; after the warm-up all prototypes are equal too: 2 + λ ln K."""
        weight = self.settings.scattering_weight * self._is_active(self.progress.before)
        return 2.0 + weight * log(self.settings.clusters)
