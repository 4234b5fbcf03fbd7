"""How the costs of training grow: CPU seconds of what a step, an epoch or a checkpoint did before, and of what it does.

Synthetic memories, features and labels; no training. Before: sslpipe 0.5.0's arithmetic, written out here.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from benchmarks.mining import peak_of
from benchmarks.report import Options, Table
from sslpipe.engine.tensor_file import write_tensors
from sslpipe.methods.cluster.scan import held_out_loss
from sslpipe.methods.finetune import linear
from sslpipe.methods.semisup import simmatch as simmatch_method
from sslpipe.methods.semisup._logistic import left_out_logits, regress, solvable, stratified_folds
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.objectives.nce import nce
from sslpipe.objectives.scan import scan

COLUMNS = ("", "size", "CPU s before", "CPU s", "peak MB", "exponent")
Run = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """What is measured at several sizes, as it was and as it is."""

    name: str
    make: Callable[[int], tuple[Run, Run]]
    """Returns the runs before and now, for a size."""
    sizes: tuple[int, ...]
    quick: tuple[int, ...]


def rows_of(work: Work, sizes: tuple[int, ...]) -> list[list[object]]:
    """The rows of a table; beside the last one, the exponent of now's seconds between first and last size."""
    rows, seconds = [], []
    for size in sizes:
        before, now = work.make(size)
        peak, _ = peak_of(now)  # first, while the process has no freed memory to use again
        earlier = _cpu(before)
        seconds.append(_cpu(now))
        rows.append([work.name, f"{size:,}", earlier, seconds[-1], 1000 * peak, "-"])
    if len(rows) > 1:
        rows[-1][-1] = log(max(seconds[-1], 1e-6) / max(seconds[0], 1e-6)) / log(sizes[-1] / sizes[0])
    return rows


def _cpu(run: Run) -> float:
    """CPU seconds, the least of three runs, or of one that takes long."""
    taken: list[float] = []
    while len(taken) < 3 and sum(taken) < 5:
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return min(taken)


def _unit(count: int, length: int) -> Tensor:
    return F.normalize(torch.randn(count, length, generator=torch.Generator().manual_seed(count)), dim=1)


def checkpoint(images: int) -> tuple[Run, Run]:
    """A memory bank of 128 numbers an image, written to a file."""
    tensors = {"rows": _unit(images, 128)}
    path = Path(tempfile.gettempdir()) / f"growth-{images}.safetensors"

    def written(write: Run) -> Run:
        def run() -> None:
            write()
            path.unlink()

        return run

    before = written(lambda: path.write_bytes(save({name: each.clone() for name, each in tensors.items()})))
    return before, written(lambda: write_tensors(path, tensors, {}))


def noise_contrast(images: int) -> tuple[Run, Run]:
    """The objective of NCE, 128 images against 4,096 noise rows each, and its gradient."""
    memory, feature = _unit(images, 128), _unit(128, 128).requires_grad_()
    random = torch.Generator().manual_seed(0)
    index = torch.randint(images, (128,), generator=random)
    noise = torch.randint(images, (128, 4096), generator=random)
    z = torch.tensor(float(images))

    def before() -> None:
        rows = memory[torch.cat([index[:, None], noise], dim=1)]
        cosine = torch.einsum("bd,bmd->bm", feature, rows)
        nce(feature, index, noise, memory, temperature=0.07, normalizer=z, cosine=cosine).backward()

    return before, lambda: nce(feature, index, noise, memory, temperature=0.07, normalizer=z).backward()


def simmatch_memory(labels: int) -> tuple[Run, Run]:
    """The update of SimMatch's memory by 64 embeddings."""
    index, z = torch.arange(64) * (labels // 64), _unit(64, 128)
    method = simmatch_method.Method.__new__(simmatch_method.Method)
    torch.nn.Module.__init__(method)
    method.settings = simmatch_method.Settings()
    method.register_buffer("bank", _unit(labels, 128))
    bank = method.bank.clone()

    def before() -> None:
        count = torch.zeros(len(bank), 1).index_add_(0, index, z.new_ones(len(index), 1))
        mean = torch.zeros_like(bank).index_add_(0, index, z) / count.clamp(min=1)
        bank.copy_(torch.where(count > 0, F.normalize(0.7 * bank + 0.3 * mean, dim=1), bank))

    return before, lambda: method._remember(index, z)


def linear_probe(labels: int) -> tuple[Run, Run]:
    """The choice of the penalty and the fit, 64 features and 10 classes."""
    label = torch.arange(labels) % 10
    random = torch.Generator().manual_seed(0)
    features = 0.3 * torch.randn(10, 64, generator=random)[label] + torch.randn(labels, 64, generator=random)
    settings = linear.Settings()

    def before() -> None:
        wide, folds = features.double(), stratified_folds(label, 5)
        for _ in left_out_logits(wide, label, folds, settings.penalties, 200, warm=False):
            pass
        regress(wide, label, 1e-2, 200)

    def now() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            given = solvable(features, label)
            regress(given, label, linear.choose_penalty(given, label, settings), 200)

    return before, now


def scan_epoch_end(clusters: int) -> tuple[Run, Run]:
    """The held-out loss of 10 heads on 2,000 images with 5 neighbours."""
    features, random = _unit(2000, 128), torch.Generator().manual_seed(0)
    neighbors = torch.randint(2000, (2000, 5), generator=random)
    heads = ClusterHeads(128, ClusterSettings(clusters=clusters, heads=10))

    @torch.no_grad()
    def before() -> None:
        logits = heads(features)
        for row in neighbors.T:
            scan(logits, logits[:, row], entropy_weight=5.0)

    @torch.no_grad()
    def now() -> None:
        for head in range(10):
            held_out_loss(heads.single(head)(features), neighbors, entropy_weight=5.0)

    return before, now


WORKS = (
    Work("checkpoint of a memory of images", checkpoint, (50_000, 200_000, 800_000), (1000,)),
    Work("NCE, a step, by images", noise_contrast, (1000, 10_000, 90_000, 400_000), (1000,)),
    Work("SimMatch's memory, a step, by labels", simmatch_memory, (1280, 12_800, 128_000), (1280,)),
    Work("linear probe, by labels", linear_probe, (2000, 12_000, 24_000), (200,)),
    Work("SCAN, the end of an epoch, by clusters", scan_epoch_end, (10, 100, 1000), (10,)),
)


def measure(options: Options) -> list[Table]:
    rows = [row for work in WORKS for row in rows_of(work, work.quick if options.quick else work.sizes)]
    return [Table("Growth of the costs of training", COLUMNS, rows, f"{torch.get_num_threads()} threads.")]
