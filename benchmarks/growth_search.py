"""How the costs of inference, neighbour search and merging grow: CPU seconds and memory on synthetic features."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
import torch

from benchmarks.mining import clustered, peak_of
from benchmarks.report import Options, Table
from sslpipe.data.images import Images
from sslpipe.neighbors import faiss_search
from sslpipe.neighbors.merging import count_links, merge_steps
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.inference import infer
from sslpipe.nets.tiny_resnet import tiny_resnet

COLUMNS = ("", "size", "CPU s before", "CPU s", "peak MB", "exponent")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """Something whose cost is measured at several sizes."""

    name: str
    make: Callable[[int], Callable[[], object]]
    """Returns what is measured, for a size."""
    sizes: tuple[int, ...]
    before: tuple[float | None, ...] = ()
    """CPU seconds of sslpipe 0.5.0 at these sizes, with one thread on the machine of docs/speed.md."""


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of the logarithm of the seconds over that of the size, by least squares."""
    return float(np.polyfit([log(size) for size in sizes], [log(max(each, 1e-6)) for each in seconds], 1)[0])


def rows_of(work: Work) -> list[list[object]]:
    """The rows of a table: each size, and the exponent beside the last of at least three."""
    seconds, rows = [], []
    for place, size in enumerate(work.sizes):
        run = work.make(size)
        began = time.process_time()
        peak, _ = peak_of(run)
        seconds.append(time.process_time() - began)
        before = work.before[place] if place < len(work.before) else None
        rows.append([work.name, f"{size:,}", "-" if before is None else before, seconds[-1], 1000 * peak, "-"])
    if len(rows) > 2:
        rows[-1][-1] = exponent(list(work.sizes), seconds)
    return rows


def inference(images: int) -> Callable[[], object]:
    """tiny_resnet on images of 32 px."""
    array = np.random.default_rng(0).integers(0, 256, (images, 3, 32, 32)).astype(np.uint8)
    network = tiny_resnet(channels=3).eval()
    return lambda: infer(network, Images(array, CPU))


def neighbors(settings: SearchSettings, k: int) -> Callable[[int], Callable[[], object]]:
    """The neighbours of all images, 128 dimensions."""

    def make(images: int) -> Callable[[], object]:
        features = clustered(images, 128)
        return lambda: nearest_neighbors(features, k=k, settings=settings)

    return make


def neighbors_of(k: int) -> Callable[[], object]:
    """The k neighbours of 20,000 images."""
    return neighbors(SearchSettings(index="exact"), k)(20_000)


def hnsw(images: int) -> Callable[[], object]:
    """The graph of hnsw, even where a comparison of all is faster."""
    features = clustered(images, 128)

    def run() -> object:
        cost, faiss_search.cost = faiss_search.cost, lambda *_: 0.0
        try:
            return nearest_neighbors(features, k=20, settings=SearchSettings(index="hnsw"))
        finally:
            faiss_search.cost = cost

    return run


def merging(clusters: int) -> Callable[[], object]:
    """Over-clusters of 20 images, each linked with those nearby, merged to one group."""
    rng, images = np.random.default_rng(0), 20 * clusters
    near = (np.arange(images)[:, None] + rng.integers(1, 400, size=(images, 10))) % images
    links = count_links(np.repeat(np.arange(clusters), 20), near, clusters=clusters)
    return lambda: merge_steps(links)


def works(quick: bool) -> list[Work]:
    """What is measured; quick: at sizes that take a second."""
    exact, ivf = SearchSettings(index="exact"), SearchSettings(index="ivf")
    small = (2000, 4000, 8000)
    return [
        Work(
            "infer, tiny_resnet 32 px", inference, (200, 400, 800) if quick else (1000, 2000, 4000), (1.06, 2.12, 4.24)
        ),
        Work("neighbours, exact, k = 20", neighbors(exact, 20), small if quick else (12_500, 25_000, 50_000)),
        Work("neighbours, ivf, k = 20", neighbors(ivf, 20), small if quick else (50_000, 100_000, 200_000)),
        Work("neighbours, hnsw, k = 20", hnsw, small if quick else (50_000, 100_000, 200_000)),
        Work("exact neighbours of 20,000, size k", neighbors_of, (20, 50, 200), (1.39, 1.96, 13.5)),
        Work("merging, size groups", merging, (250, 500, 1000), (0.05, 0.28, 2.4)),
    ]


def measure(options: Options) -> list[Table]:
    rows = [row for work in works(options.quick) for row in rows_of(work)]
    return [Table("Growth: inference, search and merging, on the CPU", COLUMNS, rows)]
