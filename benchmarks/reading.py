"""Images that do not fit into memory: random batches from a cold file, by the memory map and read ahead by threads.

`python -m benchmarks.reading --gigabytes 20 --folder DIR` writes so much to the folder first and deletes it at the
end. Before each way the file is dropped from the system's cache; "left in the cache" is what was there all the same. A
step sleeps, as the CPU does while a GPU trains. Linux only.
"""

import argparse
import ctypes
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import Options, Table
from sslpipe.data.batches import Batches
from sslpipe.data.images import Images
from sslpipe.data.reading import readers, rows_of

SHAPE = (3, 224, 224)
BATCH = 256


@dataclass
class Run:
    """What one way of reading took for all steps."""

    images: int
    seconds: float
    waited: float
    """Seconds that the steps waited for images."""
    cached: float
    """Share of the file in the system's cache at the start."""
    memory: float
    """Most bytes of memory above the start; pages of the file do not count."""


def write(path: Path, count: int) -> None:
    """Write images of noise, of which the same few hundred come again and again."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *SHAPE))
    noise = np.random.default_rng(0).integers(256, size=(500, *SHAPE), dtype=np.uint8)
    for start in range(0, count, len(noise)):
        array[start : start + len(noise)] = noise[: count - start]
    array.flush()


def drop(path: Path) -> None:
    """Drop a file from the system's cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def cached(path: Path) -> float:
    """Return the share of a file that is in the system's cache."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        view = np.frombuffer(mapped, np.uint8)
        address = ctypes.c_void_p(view.ctypes.data)
        failed = ctypes.CDLL(None).mincore(address, ctypes.c_size_t(len(mapped)), found)
        del view
        return float("nan") if failed else float((np.frombuffer(found, np.uint8) & 1).mean())


def memory() -> int:
    """Return the bytes of this process that are no pages of files."""
    status = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in status if line.startswith(("RssAnon:", "RssShmem:")))


def mapped(array: np.ndarray, steps: int) -> Iterator[torch.Tensor]:
    """Random batches gathered by the memory map in the main thread."""
    batches = Batches(Images(array[:, :1, :1, :1], torch.device("cpu")), BATCH, seed=0)
    for step in range(steps):
        yield torch.from_numpy(array[batches.at(step).index.numpy()])


def ahead(array: np.ndarray, steps: int) -> Iterator[torch.Tensor]:
    """Random batches read ahead."""
    images = Images(array, torch.device("cpu"))
    images.resident = None  # as of a set that does not fit
    batches = Batches(images, BATCH, seed=0)
    for step in range(steps):
        yield batches.at(step).image


def at_once(array: np.ndarray, steps: int) -> Iterator[torch.Tensor]:
    """Random batches that threads read without pause into one buffer each four: the disk's limit."""
    order = torch.randperm(len(array), generator=torch.Generator().manual_seed(0)).numpy()
    rows, threads = rows_of(array), readers()
    buffers = [torch.empty(BATCH, *SHAPE, dtype=torch.uint8) for _ in range(4)]
    started: list[object] = []
    for step in range(steps + 3):
        if step < steps:
            index = order[step * BATCH : (step + 1) * BATCH]
            started.append(threads.start(rows.works(index, buffers[step % 4])))
        if step >= 3:
            started[step - 3].wait()
            yield buffers[(step - 3) % 4]


def in_memory(array: np.ndarray, steps: int) -> Iterator[torch.Tensor]:
    """Random batches of images that are kept in memory, as many as fit into 1 GB."""
    few = Images(np.array(array[: min(len(array), 7000)]), torch.device("cpu"))
    yield torch.empty(0)
    batches = Batches(few, BATCH, seed=0)
    for step in range(steps):
        yield batches.at(step).image


def pass_mapped(array: np.ndarray, steps: int) -> Iterator[torch.Tensor]:
    """A pass in order by the memory map."""
    for start in range(0, steps * BATCH, BATCH):
        yield torch.from_numpy(np.array(array[start : start + BATCH]))


def pass_ahead(array: np.ndarray, steps: int) -> Iterator[torch.Tensor]:
    """A pass in order read ahead."""
    images = Images(array, torch.device("cpu"))
    for start in range(0, steps * BATCH, BATCH):
        yield images.part(start, start + BATCH)


WAYS: dict[str, Callable[[np.ndarray, int], Iterator[torch.Tensor]]] = {
    "random, memory map": mapped,
    "random, read ahead": ahead,
    "random, threads without pause": at_once,
    "random, kept in memory": in_memory,
    "in order, memory map": pass_mapped,
    "in order, read ahead": pass_ahead,
}


def run(way: Callable[[np.ndarray, int], Iterator[torch.Tensor]], path: Path, step_seconds: float) -> Run:
    """Take all steps of an epoch by one way."""
    drop(path)
    share, array = cached(path), np.load(path, mmap_mode="r")
    steps, waited, before = len(array) // BATCH, 0.0, memory()
    batches, most = way(array, steps), before
    if way is in_memory:
        next(batches)
    images, start = 0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        images += len(batch)
        most = max(most, memory())
        time.sleep(step_seconds)
    return Run(images, time.perf_counter() - start, waited, share, most - before)


@contextmanager
def store(folder: Path | None, gigabytes: float) -> Iterator[Path]:
    """Yield a file of images, which is deleted at the end."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "images.npy"
        write(path, max(round(gigabytes * 1e9 / np.prod(SHAPE)), 2 * BATCH))
        yield path


def measure(
    options: Options, gigabytes: float = 2.0, folder: Path | None = None, step: float = 0.1, repeats: int = 1
) -> list[Table]:
    """Rates of all ways, alone and with a step. gigabytes: size of the file. step: seconds of a step."""
    rows = []
    with store(folder, 0.1 if options.quick else gigabytes) as path:
        size = path.stat().st_size / 1e9
        for name, way in [each for _ in range(repeats) for each in WAYS.items()]:
            for seconds in (0.0, step):
                found = run(way, path, seconds)
                rows.append(
                    [
                        name,
                        f"{seconds * 1000:.0f} ms",
                        round(found.images / found.seconds),
                        round(found.waited / (found.images / BATCH) * 1000, 1),
                        round(found.memory / 1e6),
                        f"{found.cached:.0%}",
                    ]
                )
    batch = BATCH * np.prod(SHAPE) / 1e6
    return [
        Table(
            f"Batches of {BATCH} images at 224 px from a file of {size:.3g} GB",
            ["way", "step", "images/s", "waits in a step, ms", "memory, MB", "left in the cache"],
            rows,
            f"A batch is {batch:.1f} MB. Cold file; a step sleeps; memory above the start, without pages of the file.",
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument(
        "--folder", type=Path, help="on the disk that is measured; the system's temporary one if not given"
    )
    parser.add_argument("--step", type=float, default=0.1, help="seconds of a step")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    options = Options(torch.device("cpu"))
    for table in measure(options, given.gigabytes, given.folder, given.step, given.repeats):
        print(table.markdown())


if __name__ == "__main__":
    main()
