"""A method's training step over the bare forward and backward of its network on the same images.

The bare pass repeats every forward of the network that the step makes, on images of the same number and size, with a
gradient where the step has one, and one backward; nothing else. What the step does besides is what is measured:
batches, views, losses, memories, the optimiser, averaged weights. Settings are those of the demonstration and of the
published experiments on CIFAR (recipes/), but for the network and the batch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.measure import Rounds, interleave
from benchmarks.report import Options, Table
from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches
from sslpipe.data.device import autocast
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import StoreInfo
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.trainer import Trainer
from sslpipe.io.params import find_module
from sslpipe.io.settings import parse
from sslpipe.io.stages import SHARED_KEYS
from sslpipe.methods.cluster import scan
from sslpipe.methods.pretrain import _base as pretext
from sslpipe.methods.self_label import confident
from sslpipe.methods.semisup._base import Problem
from sslpipe.nets.heads import LinearHead, LinearSettings
from sslpipe.nets.network import BackboneSettings, Network, build_network

CLASSES = 10
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Setup:
    """Where a method's step is measured."""

    backbone: BackboneSettings
    images: Images
    batch: int

    @property
    def info(self) -> StoreInfo:
        """What a store would say of the images."""
        _, channels, size, _ = self.images.array.shape
        count = len(self.images)
        return StoreInfo(
            size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels,
            train=count, held_out=0, test=0, protocol="split", fingerprint="",
        )  # fmt: skip


def images(count: int, channels: int, size: int, device: torch.device) -> Images:
    """Random smooth images."""
    random = np.random.default_rng(0)
    small = torch.from_numpy(random.random((count, channels, 4, 4), dtype=np.float32))
    large = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    noise = torch.from_numpy(random.random((count, channels, size, size), dtype=np.float32))
    return Images(((large * 0.8 + noise * 0.2) * 255).byte().numpy(), device)


def batches(method: BaseMethod, setup: Setup) -> Batches:
    """The stream of unlabelled batches of a method."""
    return Batches(setup.images, setup.batch, seed=0, needs=method.needs())


def trainer(stage: str, method: str, block: dict[str, Any], setup: Setup) -> Trainer:
    """A method of a stage, ready to step; block: its settings in params.yaml."""
    torch.manual_seed(0)
    module = find_module(f"sslpipe.methods.{stage}", method, where=stage)
    settings = parse(module.Settings, block, where=stage)
    settings = replace(settings, fit=replace(settings.fit, batch=setup.batch))
    device = setup.images.device
    held_out = setup.images.subset(torch.arange(0))
    if stage == "pretrain":
        made = module.Method(settings, pretext.Problem(setup.backbone, setup.info, setup.images, held_out)).to(device)
        return Trainer(made.train(), batches(made, setup), settings.fit, seed=0)
    network = build_network(setup.backbone, setup.info).to(device)
    if stage == "cluster":
        neighbors = torch.randint(len(setup.images), (len(setup.images), 20), device=device)
        hood = scan.Neighborhood(setup.images, neighbors)
        made = module.Method(replace(settings, head_epochs=0), scan.Problem(network, hood, hood)).to(device)
        return Trainer(made.train(), batches(made, setup), settings.fit, seed=0)
    if stage == "self_label":
        network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=CLASSES)).to(device)
        problem = confident.Problem(network, setup.images)
        made = module.Method(replace(settings, threshold=0.0), problem).to(device)
        return Trainer(made.train(), batches(made, setup), settings.fit, seed=0)
    index = torch.arange(4 * CLASSES, device=device)
    labelled = LabelledImages(setup.images, index, index % CLASSES, tuple("0123456789"))
    made = module.Method(settings, Problem(network, labelled)).to(device)
    paired = PairedBatches(batches(made, setup), LabelledBatches(labelled, settings.labelled_batch, seed=0))
    return Trainer(made.train(), paired, settings.fit, seed=0)


@dataclass(frozen=True)
class Pass:
    """One forward of the backbone."""

    shape: tuple[int, ...]
    gradient: bool
    training: bool


@contextmanager
def watched(network: Network) -> Iterator[list[Pass]]:
    """What goes through backbones of the network's kind while the block runs, copies of the network included."""
    passes: list[Pass] = []

    def seen(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is type(network.backbone):
            passes.append(Pass(tuple(inputs[0].shape), torch.is_grad_enabled(), module.training))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(seen)
    try:
        yield passes
    finally:
        handle.remove()


def bare(network: Network, passes: list[Pass], device: torch.device) -> Callable[[], None]:
    """The network's work of a step: its forwards on images that are there, and one backward."""
    inputs = [torch.rand(each.shape, device=device) for each in passes]
    images = [x.contiguous(memory_format=torch.channels_last) for x in inputs]

    def work() -> None:
        network.zero_grad(set_to_none=True)
        loss: Any = 0.0
        with autocast(device):
            for each, image in zip(passes, images, strict=True):
                network.train(each.training)
                with torch.set_grad_enabled(each.gradient):
                    output: Tensor = network(image)
                if each.gradient:
                    loss = loss + output.float().mean()
        loss.backward()
        network.train()

    return work


def beside_bare(trained: Trainer, *, rounds: int, steps: int) -> tuple[list[Pass], Rounds]:
    """What a step sends through the network, and rounds of `steps` steps ("step") and as many bare passes ("bare")."""
    taken = 0

    def step() -> None:
        nonlocal taken
        for _ in range(steps):
            trained.step(taken)
            taken += 1

    with watched(trained.method.network) as passes:
        trained.step(taken)
    taken += 1
    once = bare(trained.method.network, list(passes), trained.batches.device)

    def pure() -> None:
        for _ in range(steps):
            once()

    return list(passes), interleave({"step": step, "bare": pure}, rounds=rounds, warmup=int(steps > 1))


Blocks = Mapping[tuple[str, str], dict[str, Any]]
"""(stage, method) → its settings."""


def settings_of(tree: Mapping[str, Any], stage: str, method: str) -> dict[str, Any]:
    """A method's settings in the content of a params file, with the keys that all methods of the stage share."""
    return {key: tree[stage][key] for key in SHARED_KEYS.get(stage, ())} | tree[stage][method]


def demonstration() -> Blocks:
    """The methods of params.yaml and of recipes/digits-*.yaml; MixMatch and UDA with the settings of the others."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    digits = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "recipes").glob("digits-*.yaml"))]
    pretrain = [tree["pretrain"] for tree in (params, *digits)]
    blocks = {("pretrain", block["method"]): block[block["method"]] for block in pretrain}
    alone = (("cluster", "scan"), ("self_label", "confident"))
    blocks |= {(stage, method): settings_of(params, stage, method) for stage, method in alone}
    blocks |= {("semisup", name): block for name, block in params["semisup"].items() if name != "methods"}
    few = {**params["semisup"]["supervised"], "head_init": "logistic"}
    uda = {**few, "strong": params["semisup"]["fixmatch"]["strong"]}
    return {("semisup", "mixmatch"): few, ("semisup", "uda"): uda} | blocks


def published() -> Blocks:
    """Of the experiments on CIFAR."""

    def of(recipe: str, stage: str, method: str) -> dict[str, Any]:
        return settings_of(yaml.safe_load((ROOT / f"recipes/{recipe}.yaml").read_text()), stage, method)

    scan, few = "scan-cifar10-code", {"fixmatch": "cifar10-40", "simmatch": "cifar10-40", "suave": "cifar100-400"}
    chosen = (("pretrain", "simclr"), ("cluster", "scan"), ("self_label", "confident"))
    blocks = {(stage, method): of(scan, stage, method) for stage, method in chosen}
    return blocks | {("semisup", name): of(f"{name}-{data}", "semisup", name) for name, data in few.items()}


def table(title: str, blocks: Blocks, setup: Setup, batch: int | None, *, rounds: int, steps: int) -> Table:
    """A row a method. batch: None takes each method's own."""
    rows = []
    for (stage, method), block in blocks.items():
        own = replace(setup, batch=batch or block["fit"]["batch"])
        passes, turns = beside_bare(trainer(stage, method, block, own), rounds=rounds, steps=steps)
        seen = sum(each.shape[0] for each in passes if each.gradient)
        only = sum(each.shape[0] for each in passes if not each.gradient)
        milliseconds = [1000 * turns.time(name).median / steps for name in ("step", "bare")]
        rows.append([f"{stage}.{method}", own.batch, seen, only, *milliseconds, turns.ratio("step", "bare")])
    columns = ("method", "batch", "images with gradient", "without", "step, ms", "bare, ms", "step over bare")
    note = f"{torch.get_num_threads()} threads, {setup.images.device.type}; {rounds} rounds of {steps} steps."
    return Table(title, columns, rows, note)


def measure(options: Options) -> list[Table]:
    device, gpu = options.device, options.device.type == "cuda"
    tiny, resnet18 = BackboneSettings(name="tiny_resnet"), BackboneSettings(name="resnet18")
    small, colour = images(1200, 1, 16, device), images(4096, 3, 32, device)
    rounds, steps = (2, 1) if options.quick else (9, 4)
    tables = [
        table(
            "Steps: the demonstration (tiny_resnet, 16 × 16, grey)",
            demonstration(), Setup(tiny, small, 0), None, rounds=rounds, steps=steps,
        ),
        table(
            "Steps: tiny_resnet, 32 × 32",
            published(), Setup(tiny, colour, 0), 16 if options.quick else 128, rounds=rounds, steps=1,
        ),
    ]  # fmt: skip
    if not options.quick:
        title, batch = "Steps: ResNet-18, 32 × 32", 512 if gpu else 128
        rounds, steps = (9, 4) if gpu else (3, 1)
        tables.append(table(title, published(), Setup(resnet18, colour, 0), batch, rounds=rounds, steps=steps))
    return tables
