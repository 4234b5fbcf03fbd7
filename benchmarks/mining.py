"""Exact neighbour search beside its matrix products alone, plain torch.topk, faiss and scikit-learn.

The products are those of all pairs, N² · D multiplications; this search makes half of them, since the images are
compared among themselves. Peak memory is above what the process holds before the search (the features included); it is
read from Linux, elsewhere it is missing.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measure import interleave
from benchmarks.report import Options, Table
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.search import nearest_in, nearest_neighbors

K = 20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PRODUCTS, OWN = "products of all pairs", "sslpipe"
Found = NDArray[np.int64]


def clustered(images: int, dimensions: int, groups: int = 100) -> Tensor:
    """[N, D] unit features as of a trained network: groups with a cosine of about 0.5 within them."""
    random = np.random.default_rng(0)
    centers = random.standard_normal((groups, dimensions), dtype=np.float32)
    features = centers[random.integers(groups, size=images)]
    features += random.standard_normal((images, dimensions), dtype=np.float32)
    return torch.nn.functional.normalize(torch.from_numpy(features))


def products(features: Tensor) -> None:
    """All inner products, in tiles that a CPU's caches hold, and nothing else."""
    side = 1024 if features.device.type == "cpu" else 8192
    tile = torch.empty(side * side, device=features.device)
    for rows in features.split(side):
        for columns in features.split(side):
            torch.mm(rows, columns.T, out=tile[: len(rows) * len(columns)].view(len(rows), len(columns)))


def plain(features: Tensor) -> Found:
    """What one would write first: a product and torch.topk for 1024 images at a time."""
    return np.concatenate([(rows @ features.T).topk(K + 1).indices.cpu().numpy() for rows in features.split(1024)])


def by_sklearn(features: Tensor) -> Found:
    """scikit-learn, by brute force."""
    from sklearn.neighbors import NearestNeighbors

    bank = features.cpu().numpy()
    found: Found = (
        NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(bank).kneighbors(bank, return_distance=False)
    )
    return found


def flat(features: Tensor) -> Found:
    """With faiss' flat index."""
    import faiss

    bank = features.cpu().numpy()
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    found: Found = index.search(bank, K + 1)[1]
    return found


def knn(features: Tensor) -> Found:
    """With faiss, without an index."""
    import faiss

    bank = features.cpu().numpy()
    found: Found = faiss.knn(bank, bank, K + 1, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return found


def ivf(features: Tensor) -> Found:
    """With faiss' inverted lists, as `mine_neighbors.index: ivf` has them: not exact."""
    return nearest_neighbors(features, k=K, settings=SearchSettings(index="ivf"))[0]


def own(features: Tensor) -> Found:
    """As `mine-neighbors` does."""
    return nearest_neighbors(features, k=K, device=features.device)[0]


def memory(key: str) -> float:
    """VmRSS or VmHWM (its peak) of this process, GB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e9


def peak_of(work: Callable[[], object]) -> tuple[float, object]:
    """Peak memory above the start, GB, and the result."""
    if not STATUS.exists():
        return float("nan"), work()
    CLEAR.write_text("5")  # sets the peak back to the present
    before = memory("VmRSS")
    result = work()
    return memory("VmHWM") - before, result


def recall(found: object, exact: Found) -> float | str:
    """Share of the exact neighbours that were found; the image itself does not count."""
    if not isinstance(found, np.ndarray):
        return "-"
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))


def compare(
    options: Options, images: int, rounds: int, implementations: dict[str, Callable[[Tensor], object]]
) -> Table:
    """Everyone on the same features; the first pass, which does not count, gives memory and recall."""
    features = clustered(images, 512).to(options.device)
    exact = own(features)
    seen = {name: peak_of(lambda work=work: work(features)) for name, work in implementations.items()}
    for name, (_, found) in seen.items():
        share = recall(found, exact)
        assert isinstance(share, str) or share > (0.9 if name == "faiss ivf" else 0.9999), (name, share)
    turns = interleave(
        {name: lambda work=work: work(features) for name, work in implementations.items()}, rounds=rounds, warmup=0
    )
    rows = [
        [name, turns.time(name), turns.ratio(name, PRODUCTS), turns.ratio(name, OWN), recall(found, exact), peak]
        for name, (peak, found) in seen.items()
    ]
    return Table(
        f"Mining, {images:,} × 512, k = {K}, {options.device.type}, {torch.get_num_threads()} threads",
        ("", "seconds", "over the products", "over sslpipe", "recall", "peak memory, GB"),
        rows,
    )


def measure(options: Options) -> list[Table]:
    few: dict[str, Callable[[Tensor], object]] = {PRODUCTS: products, OWN: own}
    all_: dict[str, Callable[[Tensor], object]] = {**few, "product and topk": plain, "faiss flat": flat}
    others = {"faiss.knn": knn, "faiss ivf": ivf, "scikit-learn": by_sklearn}
    if options.quick:
        return [compare(options, 3000, 1, {**all_, **others}), grows(options, (2000, 4000))]
    return [
        compare(options, 20000, 3, {**all_, **others}),
        compare(options, 50000, 3, {**few, "faiss flat": flat}),
        grows(options, (25000, 50000, 100000)),
    ]


def grows(options: Options, sizes: tuple[int, ...]) -> Table:
    """Time for each pair of images, and memory, as their number grows."""
    rows = []
    for images in sizes:
        features = clustered(images, 128).to(options.device)
        start = time.perf_counter()
        peak, _ = peak_of(lambda features=features: own(features))
        rows.append([f"{images:,}", (time.perf_counter() - start) / images**2 * 1e9, peak])
    bank = clustered(20 * sizes[0], 128).to(options.device)
    start = time.perf_counter()
    peak, _ = peak_of(lambda: nearest_in(bank[: sizes[0] // 5], bank, k=K, device=options.device))
    pairs = len(bank) * (sizes[0] // 5)
    rows.append(
        [f"{sizes[0] // 5:,} of other images in {len(bank):,}", (time.perf_counter() - start) / pairs * 1e9, peak]
    )
    return Table(f"Mining, N × 128, k = {K}", ("images", "ns a pair", "peak memory, GB"), rows)
