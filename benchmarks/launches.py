"""What a training step asks of a GPU, and its modelled time over that of the bare forward and backward of its network.

No GPU is needed: `fake_gpu` records the operations, and `H100` holds all that times rest on. A step is launched one by
one, or with its views one step ahead in a CUDA graph on a second stream. They then cost the main stream only their
bytes and FLOPs, since their many small kernels run beside those of the network; what they take by themselves is the
least time of the step. `python -m benchmarks launches`, or with other assumptions
`python -m benchmarks.launches --launch-us 4 --lines 10 fixmatch`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from benchmarks import steps
from benchmarks.fake_gpu import DEVICE, PARTS, Launch, on_device, recorded
from benchmarks.report import Options, Table
from sslpipe.data.images import Images
from sslpipe.engine.trainer import Trainer
from sslpipe.io.params import find_module
from sslpipe.io.settings import parse
from sslpipe.nets.network import BackboneSettings
from sslpipe.tools import recipes


@dataclass(frozen=True)
class H100:
    """What every modelled time rests on, none of it measured here. Its data sheet (SXM): 3.35 TB/s, 989 TFLOP/s in
    bfloat16, 67 in float32 and in float64's matrix units.
    """

    launch_us: float = 4.0
    """Microseconds of the CPU for one operation, autograd and autocast included: assumption; 7 is shown beside it."""
    kernel_us: float = 2.5
    """Least microseconds of the GPU for a kernel: assumption."""
    graph_kernel_us: float = 1.5
    """The same in a CUDA graph: assumption."""
    graph_us: float = 10.0
    """Microseconds of the CPU for a CUDA graph: assumption."""
    graph_copies: float = 2.0
    """Operations that hand a batch to the graph: assumption."""
    bandwidth: float = 2.5e12
    """Bytes a second: three quarters of the data sheet, assumption."""
    bfloat16: float = 250e12
    """FLOP/s of products in bfloat16: a quarter of the data sheet, assumption for networks on small images."""
    float32: float = 40e12
    """FLOP/s of products in float32: assumption."""
    float64: float = 30e12
    """FLOP/s of products in float64: assumption."""

    def throughput(self, launch: Launch) -> float:
        """Seconds by bytes and FLOPs alone."""
        rates = {torch.float32: self.float32, torch.float64: self.float64}
        return max(launch.bytes / self.bandwidth, launch.flops / rates.get(launch.dtype, self.bfloat16))

    def alone(self, launch: Launch, least_us: float) -> float:
        """Seconds on a stream, at least `least_us` microseconds for each kernel."""
        return max(self.throughput(launch), 1e-6 * least_us * launch.kernels)

    def gpu(self, launches: Iterable[Launch]) -> float:
        """Seconds of the GPU, one kernel after the other."""
        return sum(self.alone(launch, self.kernel_us) for launch in launches)

    def one_by_one(self, launches: Sequence[Launch], *, beside: tuple[float, float] = (0.0, 0.0)) -> float:
        """Seconds of a step among others, each operation launched by itself.

        That is the larger of the CPU's and of the GPU's time, or more if the CPU waits. beside: further seconds of the
        CPU and of the GPU.
        """
        cpu = gpu = before = end = 0.0
        for _ in range(4):  # steps, after which the lead of the CPU is what it remains
            cpu, gpu, before = cpu + beside[0], gpu + beside[1], end
            for launch in launches:
                cpu += 1e-6 * self.launch_us * launch.kernels
                gpu = max(cpu, gpu) + self.alone(launch, self.kernel_us)
                cpu = max(cpu, gpu) if launch.waits else cpu
            end = max(cpu, gpu)
        return end - before

    def views_ahead(self, launches: Sequence[Launch]) -> float:
        """Seconds of a step whose views are made one step ahead in a graph on a second stream."""
        views = [launch for launch in launches if launch.part == "views"]
        others = [launch for launch in launches if launch.part != "views"]
        cpu = 1e-6 * (self.graph_us + self.graph_copies * self.launch_us)
        main = self.one_by_one(others, beside=(cpu, sum(map(self.throughput, views))))
        return max(main, sum(self.alone(launch, self.graph_kernel_us) for launch in views))


class Row(NamedTuple):
    """A method to look at."""

    stage: str
    method: str
    recipe: str = ""
    """Has its settings; none: they are the defaults."""
    batch: int = 0
    """Images of a step; 0: as set."""
    phase: str = ""
    """Of the alternation."""

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.stage}.{self.method}{' ' * bool(self.phase)}{self.phase}"


PHASES = ("rotation", "semisupervised", "clustering")
SMALL = (
    Row("pretrain", "simclr", "scan-cifar10-code"),
    Row("pretrain", "nce", "scan-cifar10"),
    Row("pretrain", "rotnet", "scan-cifar10-rotnet"),
    Row("pretrain", "feature_decoupling", "scan-cifar10-feature-decoupling"),
    Row("pretrain", "swav", "suave-cifar100-400"),
    Row("pretrain", "moco"),
    Row("pretrain", "byol", batch=512),
    Row("pretrain", "dino", batch=512),
    Row("cluster", "scan", "scan-cifar10-code"),
    Row("self_label", "confident", "scan-cifar10-code"),
    Row("semisup", "supervised"),
    Row("semisup", "fixmatch", "fixmatch-cifar10-40"),
    Row("semisup", "simmatch", "simmatch-cifar10-40"),
    Row("semisup", "suave", "suave-cifar100-400"),
    Row("semisup", "daino", "daino-cifar100-400"),
    Row("semisup", "mixmatch", "mixmatch-cifar10-40"),
    Row("semisup", "uda", "uda-cifar10-40"),
    *(Row("semisup", "alternation", "alternation-cifar10-40", phase=phase) for phase in PHASES),
)
"""At 32 px with WRN-28-2 where the recipe has it, and without a recipe in semisup; else with ResNet-18."""
LARGE = (
    Row("pretrain", "dino", "daino-imagenet-1pct", batch=64),
    Row("pretrain", "nce", "scan-imagenet"),
    Row("cluster", "scan", "scan-imagenet", batch=256),
    Row("self_label", "confident", "scan-imagenet"),
    Row("semisup", "simmatch", "simmatch-imagenet-1pct"),
    Row("semisup", "suave", "suave-imagenet-1pct"),
    Row("semisup", "daino", "daino-imagenet-1pct", batch=64),
)
"""At 224 px with the recipe's network."""
IMAGES = {32: 50_000, 224: 4096}
"""Side → images of the store, few of the large ones; they enter memories and the length of an epoch alone."""


class Step(NamedTuple):
    """What a step and the bare passes of its network ask for."""

    network: str
    batch: int
    launches: list[Launch]
    bare: list[Launch]
    can_be_ahead: bool
    """Whether the views depend on nothing that the step before changes."""


@cache
def step(row: Row, side: int) -> Step:
    """Record a step of a method."""
    tree = yaml.safe_load(recipes.text(row.recipe)) if row.recipe else {}
    block = steps.settings_of(tree, row.stage, row.method) if row.recipe else {}
    defaults = find_module(f"sslpipe.methods.{row.stage}", row.method, where=row.stage).Settings
    batch = row.batch or parse(defaults, block, where=row.stage).fit.batch
    network = parse(BackboneSettings, tree["network"], where="network") if tree else BackboneSettings(name="resnet18")
    if side == 32:
        wide = network.name == "wrn_28_2" or (row.stage == "semisup" and not tree)
        network = BackboneSettings(name="wrn_28_2" if wide else "resnet18")
    blank = Images(np.zeros((IMAGES[side], 3, side, side), np.uint8), torch.device("cpu"))
    trainer = steps.trainer(row.stage, row.method, block, steps.Setup(network, blank, batch))
    place = _place(trainer, row.phase)
    form = trainer.method.views_form
    with recorded() as launches:
        on_device(trainer)
        trainer.step(place)  # what the first step of an epoch does beside is left out
        launches.clear()
        with steps.watched(trainer.method.network) as passes:
            trainer.step(place + 1)
        taken, can_be_ahead = list(launches), form() is not None
        work = steps.bare(trainer.method.network, list(passes), DEVICE)
        launches.clear()
        work()
    return Step(network.architecture or str(network.name), batch, taken, list(launches), can_be_ahead)


def _place(trainer: Trainer, phase: str) -> int:
    """Return the first step of an epoch: of a phase, or in the middle of the run, where nothing is frozen."""
    each = trainer.batches.steps_per_epoch
    if not phase:
        return trainer.total // 2 // each * each
    for epoch in range(trainer.total // each):
        trainer._begin_step(epoch * each)
        if trainer.method.phase() == phase:  # type: ignore[operator]
            return epoch * each
    raise ValueError(f"no epoch of {phase}")


def counted(rows: Sequence[Row], side: int) -> Table:
    """Launches by part, bytes and FLOPs."""
    found = []
    for row in rows:
        network, batch, launches, bare, _ = step(row, side)
        count = Counter[str]()
        for launch in launches:
            count[launch.part] += launch.kernels
        size, flops = sum(x.bytes for x in launches) / 1e9, sum(x.flops for x in launches) / 1e12
        kernels = sum(launch.kernels for launch in bare)
        waits = sum(launch.waits for launch in launches)
        each = [count[part] for part in PARTS]
        found.append([row.name, network, batch, count.total(), *each, kernels, waits, size, flops])
    columns = ("method", "network", "batch", "launches", *PARTS, "bare", "waits", "GB", "TFLOP")
    return Table(f"Launches of a step, {side} px", columns, found, "Counted without a GPU; bare: of the network alone.")


def modelled(rows: Sequence[Row], side: int, gpu: H100, costs: Sequence[float]) -> Table:
    """Times of a step over the bare passes, for each launch cost in microseconds."""
    found = []
    for row in rows:
        _, _, launches, bare, can_be_ahead = step(row, side)
        times = [1e3 * gpu.gpu(each) for each in (launches, bare)]
        for each in (replace(gpu, launch_us=cost) for cost in costs):
            alone = each.one_by_one(bare)
            one_by_one = each.one_by_one(launches)
            ahead = each.views_ahead(launches) if can_be_ahead else one_by_one
            times += [one_by_one / alone, ahead / alone]
        found.append([row.name, *times])
    each = [f"{how}, {cost:g} µs" for cost in costs for how in ("one by one", "views ahead")]
    note = "Step over bare, modelled for one H100 and never measured on one; GPU: kernels one after the other."
    columns = ("method", "GPU, step, ms", "GPU, bare, ms", *each)
    return Table(f"Modelled time of a step, {side} px", columns, found, note)


def waits(rows: Sequence[Row], side: int) -> Table:
    """What makes the CPU wait for the GPU in a step."""
    found = []
    for row in rows:
        lines = Counter((launch.name, launch.line) for launch in step(row, side).launches if launch.waits)
        found += [[row.name, count, name.strip("_"), line] for (name, line), count in lines.items()]
    note = "Values that are read, and copies from memory that is not pinned. Work on the CPU has no modelled time."
    return Table(f"Waits of a step, {side} px", ("method", "times", "operation", "line"), found, note)


def lines(rows: Sequence[Row], side: int, most: int) -> Table:
    """The lines with the most launches outside of views, the network's forward and the backward."""
    found = []
    for row in rows:
        count = Counter[tuple[str, str]]()
        for launch in step(row, side).launches:
            if launch.part not in ("views", "forward", "backward"):
                count[launch.part, launch.line] += launch.kernels
        found += [[row.name, kernels, *where] for where, kernels in count.most_common(most)]
    return Table(f"Lines with the most launches, {side} px", ("method", "launches", "part", "line"), found)


def measure(options: Options) -> list[Table]:
    """All methods at 32 px, and those with recipes for ImageNet at 224 px."""
    sizes = ((32, SMALL[:1] if options.quick else SMALL), (224, () if options.quick else LARGE))
    return [table for side, rows in sizes if rows for table in tables(rows, side, H100(), (4.0, 7.0))]


def tables(rows: Sequence[Row], side: int, gpu: H100, costs: Sequence[float]) -> list[Table]:
    return [counted(rows, side), modelled(rows, side, gpu, costs), waits(rows, side)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="all without a name")
    parser.add_argument("--side", type=int, choices=tuple(IMAGES), default=32)
    parser.add_argument("--lines", type=int, default=0, help="how many lines with the most launches to show")
    parser.add_argument("--json", type=Path, help="written with all tables")
    for field in fields(H100):
        flag, several = "--" + field.name.replace("_", "-"), field.name == "launch_us"
        default = [4.0, 7.0] if several else field.default
        parser.add_argument(
            flag, type=float, default=default, nargs="+" if several else None, help=f"default {default}"
        )
    given = parser.parse_args()
    every = SMALL if given.side == 32 else LARGE
    unknown = sorted(set(given.methods) - {row.method for row in every})
    if unknown:
        parser.error(f"unknown method {unknown[0]!r}, expected some of {', '.join({row.method: 0 for row in every})}")
    rows = [row for row in every if row.method in given.methods or not given.methods]
    other: dict[str, Any] = {field.name: getattr(given, field.name) for field in fields(H100)}
    gpu = H100(**other | {"launch_us": given.launch_us[0]})
    found = tables(rows, given.side, gpu, given.launch_us)
    found += [lines(rows, given.side, given.lines)] if given.lines else []
    for table in found:
        print(f"\n{table.markdown()}", flush=True)
    if given.json:
        given.json.write_text(json.dumps([table.json() for table in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
