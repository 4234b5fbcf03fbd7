"""A method's training step over the bare forward and backward of its network on the same images.

The bare pass repeats every forward of the network that the step makes, on images of the same number and size, with a
gradient where the step has one, and one backward; nothing else. What the step does besides is what is measured:
batches, views, losses, memories, the optimiser, averaged weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Rounds, take_turns
from sslpipe.data.batches import Batches
from sslpipe.data.device import autocast
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledBatches, LabelledImages, PairedBatches
from sslpipe.data.store import StoreInfo
from sslpipe.engine.loop import Trainer
from sslpipe.io.params import find_module
from sslpipe.io.settings import parse
from sslpipe.methods.cluster.scan import Clustering, Neighborhood
from sslpipe.methods.parts.task import Task
from sslpipe.methods.pretext import task as pretext
from sslpipe.methods.self_label.confident import SelfLabelling
from sslpipe.methods.watch import Watch
from sslpipe.nets.heads import LinearHead, LinearSettings
from sslpipe.nets.network import BackboneSettings, Network, build_network

CLASSES = 10


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


def trainer(stage: str, method: str, block: dict[str, Any], setup: Setup) -> Trainer:
    """A method of a stage, ready to step; block: its settings in params.yaml."""
    torch.manual_seed(0)
    module = find_module(f"sslpipe.methods.{stage}", method, where=stage)
    settings = parse(module.Settings, block, where=stage)
    settings = replace(settings, fit=replace(settings.fit, batch=setup.batch))
    device = setup.images.device
    unlabelled = Batches(setup.images, setup.batch, seed=0)
    nobody = Watch(setup.images.subset(torch.arange(0)), None)
    if stage == "pretrain":
        made = module.Pretext(settings, pretext.Task(setup.backbone, setup.info, setup.images, nobody)).to(device)
        return Trainer(made.train(), unlabelled, settings.fit, seed=0)
    network = build_network(setup.backbone, setup.info).to(device)
    if stage == "cluster":
        neighbors = torch.randint(len(setup.images), (len(setup.images), 20), device=device)
        hood = Neighborhood(setup.images, neighbors)
        made = Clustering(replace(settings, head_epochs=0), network, hood, hood).to(device)
        return Trainer(made.train(), unlabelled, settings.fit, seed=0)
    if stage == "self_label":
        network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=CLASSES)).to(device)
        made = SelfLabelling(replace(settings, threshold=0.0), network, setup.images).to(device)
        return Trainer(made.train(), unlabelled, settings.fit, seed=0)
    index = torch.arange(4 * CLASSES, device=device)
    labelled = LabelledImages(setup.images, index, index % CLASSES, tuple("0123456789"))
    made = module.Learner(settings, Task(network, labelled)).to(device)
    paired = PairedBatches(unlabelled, LabelledBatches(labelled, settings.labelled_batch, seed=0))
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


@dataclass(frozen=True)
class Measured:
    """A method's step beside the bare passes."""

    passes: list[Pass]
    rounds: Rounds


def measure(trained: Trainer, *, rounds: int, steps: int) -> Measured:
    """Rounds of `steps` steps and as many bare passes."""
    network = trained.method.network
    taken = 0

    def step() -> None:
        nonlocal taken
        for _ in range(steps):
            trained.step(taken)
            taken += 1

    with watched(network) as passes:
        trained.step(taken)
    taken += 1
    once = bare(network, list(passes), trained.batches.device)

    def pure() -> None:
        for _ in range(steps):
            once()

    return Measured(list(passes), take_turns({"step": step, "bare": pure}, rounds=rounds))
