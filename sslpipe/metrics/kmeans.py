"""k-means, the baseline of clustering methods."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA

from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.console import info, progress
from sslpipe.io.settings import Count
from sslpipe.metrics.restarts import restarts_within


class Rows(Protocol):
    """What has vectors: images, or stored features."""

    def __len__(self) -> int: ...

    def subset(self, index: torch.Tensor) -> Self:
        """Return those with these indices (int64 [L]), in this order."""
        ...


R = TypeVar("R", bound=Rows)
Vectors = NDArray[np.float32]
MAX_BYTES = 1 << 30
"""Maximum size of the float32 vectors that k-means is fitted to (own choice), to bound the memory; scikit-learn takes
as much again for a moment, for their variances."""
CHUNK = 4000
"""Largest number of images whose vectors are computed at a time (own choice)."""
CHUNK_BYTES = 1 << 26
"""Largest size of the vectors that are computed at a time (own choice)."""
COMPONENTS = 64
"""Principal components that are compared where all values would take long. Own choice: on the pixels of 20,000
photographs of 32 pixels, k-means on 64 components has the accuracy that it has on all 3,072 values, 0.209 and 0.208
with 10 clusters (8,000: 0.193 and 0.194), within the spread of its seeds, and takes a tenth of the time or less."""
PCA_BYTES = 1 << 28
"""Largest size of the vectors, drawn at random, whose principal components are taken (own choice: 20,000 images of 32
pixels, 445 of 224)."""
MINI_BATCHES_WORK = 20_000_000_000
"""Images × clusters × components above which k-means learns from mini-batches (Sculley 2010, own choice)."""
MINI_BATCH = 4096
"""Images in a mini-batch, but at least IMAGES of each cluster (own choice)."""
IMAGES = 10


@dataclass(frozen=True, kw_only=True)
class KMeansSettings:
    """Settings of k-means."""

    restarts: Count = 10
    """Number of runs from different k-means++ initialisations (Arthur and Vassilvitskii 2007); the one with the lowest
    inertia is kept. More: a lower inertia, slower."""
    exact_up_to: Count = 500_000_000
    """Images × clusters × values of a vector up to which k-means compares all values and runs all restarts, such as
    16,000 images of 32 pixels in 10 clusters. Above it, it compares 64 principal components, runs fewer restarts and
    learns from mini-batches as the number grows, which a line says. Own choice: ten restarts then take some 40 seconds
    of a CPU core, in components 2. Larger: exact for more images and clusters, up to hours."""


def kmeans(
    vectors: Callable[[R], Vectors],
    train: R,
    scored: R,
    *,
    clusters: int,
    settings: KMeansSettings,
    seed: int,
    title: str = "",
    where: str | None = "evaluate",
) -> NDArray[np.int64]:
    """Fit k-means to the training images and return the cluster of each scored image, [M].

    vectors: function from images, or from their stored features, to their vectors [N, D]. title: of the progress bar of
    their computation; "" shows none. where: params key of the settings, for lines about what is not exact; None: no
    line.

    Above `settings.exact_up_to`, principal components take the place of the vectors. If what is compared of the
    training images exceeds MAX_BYTES, k-means is fitted to a random sample of them.
    Raises ValueError for more clusters than vectors.
    """
    width = vectors(scored.subset(torch.arange(1))).shape[1]
    seen = _Seen(vectors, max(1, min(CHUNK, CHUNK_BYTES // (4 * width))), title)
    work = len(train) * clusters * width
    if work > settings.exact_up_to and width > COMPONENTS:
        seen = seen.reduced(train, width, seed)
    width = min(width, COMPONENTS) if seen.pca else width
    count, fitting = len(train), max(clusters, MAX_BYTES // (4 * width))
    index = torch.arange(count)
    if fitting < count:
        index, count = _drawn(fitting, count, mix(seed, RandomStream.KMEANS_SAMPLE)), fitting
        if where is not None:
            info(
                f"{where}: k-means is fitted to {fitting} of {len(train)} images, drawn at random, to bound its memory"
            )
    restarts, mini_batches = settings.restarts, False
    if work > settings.exact_up_to:
        own = count * clusters * width
        restarts, mini_batches = restarts_within(restarts, own), own > MINI_BATCHES_WORK
        compared = f"{COMPONENTS} principal components" if seen.pca else "all values"
        if where is not None:
            info(
                f"{where}: k-means of {len(train)} images in {clusters} clusters compares {compared} and runs "
                f"{restarts} of {settings.restarts} restarts{', with mini-batches' if mini_batches else ''}; "
                f"{where}.exact_up_to: {work} makes it exact"
            )
    model: KMeans | MiniBatchKMeans
    if mini_batches:
        batch = max(MINI_BATCH, IMAGES * clusters)
        model = MiniBatchKMeans(clusters, n_init=restarts, random_state=seed, batch_size=batch)
    else:
        # The vectors are made for this call, so that scikit-learn may centre them where they are.
        model = KMeans(clusters, n_init=restarts, random_state=seed, copy_x=False)
    model.fit(seen.all(train, index))
    predictions = np.empty(len(scored), dtype=np.int64)
    for place, few in seen.chunks(scored, torch.arange(len(scored))):
        predictions[place : place + len(few)] = model.predict(few)
    return predictions


@dataclass(frozen=True)
class _Seen(Generic[R]):
    """What k-means sees of images: their vectors, or principal components of them."""

    vectors: Callable[[R], Vectors]
    chunk: int
    """Number of images whose vectors are computed at a time."""
    title: str
    pca: PCA | None = None

    def chunks(self, rows: R, index: torch.Tensor) -> Iterator[tuple[int, Vectors]]:
        """Yield the place of the first one and the vectors of each chunk of the rows with these indices [L]."""
        with progress(self.title, len(index), "images") as bar:
            for start in range(0, len(index), self.chunk):
                few = self.vectors(rows.subset(index[start : start + self.chunk]))
                yield start, few if self.pca is None else self.pca.transform(few)
                bar.advance(len(few))

    def all(self, rows: R, index: torch.Tensor) -> Vectors:
        """Return the vectors of the rows with these indices, of which there is no second copy."""
        found: Vectors | None = None
        for start, few in self.chunks(rows, index):
            if found is None:
                found = np.empty((len(index), few.shape[1]), dtype=np.float32)
            found[start : start + len(few)] = few
        assert found is not None
        return found

    def reduced(self, rows: R, width: int, seed: int) -> "_Seen[R]":
        """Return the same with the principal components of a random sample of rows, whose vectors have `width`."""
        count = min(len(rows), max(COMPONENTS + 1, PCA_BYTES // (4 * width)))
        sample = self.all(rows, _drawn(count, len(rows), mix(seed, RandomStream.KMEANS_SAMPLE, 1)))
        pca = PCA(min(COMPONENTS, count), svd_solver="randomized", random_state=seed, copy=False).fit(sample)
        return replace(self, pca=pca)


def _drawn(number: int, count: int, seed: int) -> torch.Tensor:
    """Return so many of the indices below `count`, drawn at random, ascending."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:number].sort().values
