"""Neighbour search beside its matrix products alone, plain torch.topk, and faiss: time, peak memory, recall.

    python benchmarks/mining.py --images 20000 --dimensions 512 --k 20 --rounds 3 --ivf

The contenders take turns and the best of the rounds counts, so that a busy machine slows all of them; the ratios are
what to read. Peak memory is above what the process holds before the search (the features included). Linux only.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.neighbors.search import SearchSettings, nearest_neighbors
from sslpipe.neighbors.torch_search import TILE_COLUMNS, TILE_ROWS

STATUS = Path("/proc/self/status")


def clustered(images: int, dimensions: int, groups: int) -> NDArray[np.float32]:
    """[N, D] features as of a trained network: groups with a cosine of about 0.5 within them."""
    random = np.random.default_rng(0)
    centers = random.standard_normal((groups, dimensions), dtype=np.float32)
    return centers[random.integers(groups, size=images)] + random.standard_normal(
        (images, dimensions), dtype=np.float32
    )


def products(features: Tensor, columns: int) -> None:
    """The matrix products of an exact search, and nothing else."""
    rows = TILE_ROWS[features.device.type]
    buffer = torch.empty(rows * columns, device=features.device)
    for top in range(0, len(features), rows):
        for left in range(0, len(features), columns):
            a, b = features[top : top + rows], features[left : left + columns]
            torch.mm(a, b.T, out=buffer[: len(a) * len(b)].view(len(a), len(b)))


def plain(features: Tensor, k: int) -> None:
    """What one would write first: a product and torch.topk for 1024 images at a time."""
    for top in range(0, len(features), 1024):
        (features[top : top + 1024] @ features.T).topk(k + 1)


def memory(key: str) -> float:
    """VmRSS or VmHWM (its peak) of this process, GB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e9


def measure(work: Callable[[], object], device: str) -> tuple[float, float, object]:
    """Seconds, peak memory above the start in GB, and the result of `work`."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to the present
    before, start = memory("VmRSS"), time.perf_counter()
    result = work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start, memory("VmHWM") - before, result


def main() -> None:
    """Run all contenders and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ivf", action="store_true", help="time faiss' ivf too")
    parser.add_argument("--skip-faiss", action="store_true")
    options = parser.parse_args()

    features = clustered(options.images, options.dimensions, options.groups)
    on_device = torch.from_numpy(features).to(options.device)

    def mine(settings: SearchSettings) -> Callable[[], object]:
        return lambda: nearest_neighbors(features, k=options.k, settings=settings, device=options.device)

    contenders: dict[str, Callable[[], object]] = {
        "products alone": lambda: products(on_device, TILE_COLUMNS),
        "torch": mine(SearchSettings()),
        "product, torch.topk": lambda: plain(on_device, options.k),
    }
    if not options.skip_faiss:
        contenders["faiss exact"] = mine(SearchSettings(backend="faiss"))
    if options.ivf:
        contenders["faiss ivf"] = mine(SearchSettings(index="ivf"))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    peaks = dict.fromkeys(contenders, 0.0)
    found: dict[str, object] = {}
    for _ in range(options.rounds):
        for name, work in contenders.items():
            seconds, peak, found[name] = measure(work, options.device)
            times[name].append(seconds)
            peaks[name] = max(peaks[name], peak)

    print(
        f"{options.images} x {options.dimensions}, k = {options.k}, {options.device}, {torch.get_num_threads()} threads"
    )
    for name in contenders:
        ratio = min(times[name]) / min(times["products alone"])
        line = f"{name:20} best {min(times[name]):7.2f} s   {ratio:6.2f} x products   peak {peaks[name]:5.2f} GB"
        if name.startswith("faiss"):
            exact, answer = found["torch"][0], found[name][0]  # type: ignore[index]
            line += f"   recall {np.mean([np.isin(a, b).mean() for a, b in zip(exact, answer, strict=True)]):.4f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
