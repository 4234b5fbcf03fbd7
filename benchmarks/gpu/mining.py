"""Exact neighbours on the GPU beside those on the CPU: the same images, and images a second."""

import time

import numpy as np
import torch

from benchmarks.gpu.plan import Facts, Outcome, Plan
from benchmarks.mining import clustered
from sslpipe.io.console import info
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.search import nearest_in, nearest_neighbors

EXACT = SearchSettings(backend="torch", index="exact")
K, CHECKED = 20, 2000
SIZES = ((50_000, 128), (50_000, 512), (1_000_000, 128))
"""Images and dimensions: SCAN on CIFAR-10 by its head, by its features, and a collection as large as ImageNet."""
TINY = ((600, 16),)
SAME = 0.999
"""The least share of equal neighbours; similarities that are equal but for rounding may change places (own choice)."""
SIMILARITY = 1e-4
"""The largest difference of similarities, of sums of float32 products (own choice)."""


def compare(images: int, dimensions: int, device: torch.device) -> dict[str, float]:
    """Return seconds and images/s on a device, and how the first CHECKED rows differ from those found on the CPU."""
    features = clustered(images, dimensions)
    moved = features.to(device)
    nearest_neighbors(moved[: min(images, 4096)], k=K, settings=EXACT, device=device)  # loads the kernels
    began = time.perf_counter()
    index, similarity = nearest_neighbors(moved, k=K, settings=EXACT, device=device)
    seconds = time.perf_counter() - began
    few = slice(0, CHECKED)
    expected, theirs = nearest_in(features[few], features, k=K + 1, settings=EXACT)
    # The image itself, the most similar one, comes first but for copies of it.
    same = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(index[few], expected[:, 1:], strict=True)])
    largest = np.abs(similarity[few] - theirs[:, 1:]).max()
    return {"seconds": seconds, "images_per_second": images / seconds, "same": float(same), "largest": float(largest)}


def measure(plan: Plan, facts: Facts) -> Outcome:
    sizes = {f"{images} × {dimensions}": (images, dimensions) for images, dimensions in (TINY if plan.tiny else SIZES)}
    for key, size in sizes.items():
        if not plan.is_over and key not in facts:
            facts[key] = compare(*size, plan.device)
            info(f"{key}: {_shown(facts[key])}")
    found = {key: facts[key] for key in sizes if key in facts}
    bad = [f"{key}: {each['same']:.5f} of the neighbours are the CPU's, similarities {each['largest']:.1e} apart"
           for key, each in found.items() if not (each["same"] >= SAME and each["largest"] <= SIMILARITY)]  # fmt: skip
    line = "; ".join(f"{key}: {_shown(each)}" for key, each in found.items())
    return Outcome(line or "nothing measured yet", tuple(bad), done=len(found) == len(sizes))


def _shown(found: dict[str, float]) -> str:
    return f"{found['seconds']:.2f} s, {found['images_per_second']:,.0f} images/s, {found['same']:.5f} as on the CPU"
