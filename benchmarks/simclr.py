"""SimCLR end to end, images a second: this project's training step beside what a user of lightly writes.

Both train the same backbone and projection with torch's SGD on the same colour images, which lie in memory, under the
same crops, flips, jitter and grey; on CUDA in bfloat16. lightly's way: SimCLRTransform on PIL images, in a DataLoader
with a process a core that live on from epoch to epoch, two forwards, NTXentLoss. A round is an epoch of each over as
many images; one epoch of each before does not count.
"""

from collections.abc import Callable
from importlib.util import find_spec
from math import log
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks import steps
from benchmarks.measure import Rounds, interleave
from benchmarks.report import Options, Table
from sslpipe.data.device import autocast
from sslpipe.io.own_process import available_cores
from sslpipe.nets.network import BackboneSettings
from sslpipe.objectives.simclr import nt_xent

TEMPERATURE, HIDDEN, OUTPUTS = 0.5, 512, 128
SGD: Any = {"lr": 0.06, "momentum": 0.9, "weight_decay": 5e-4}
HEAD, FIT = {"hidden": HIDDEN, "outputs": OUTPUTS}, {"optimizer": {"name": "sgd", "decay_all": True, **SGD}}
BLOCK = {"temperature": TEMPERATURE, "projection": HEAD, "views": {"policy": "simclr"}, "fit": FIT}
CASES: Any = (("tiny_resnet", 16, 64, 32, 5), ("tiny_resnet", 32, 128, 12, 5), ("resnet18", 32, 128, 2, 2))
"""Network, side, batch, steps a round and rounds on a CPU, on which a step of the ResNet-18 takes seconds."""


class Pictures(Dataset[list[Tensor]]):
    """Two views of each of some PIL images."""

    def __init__(self, setup: steps.Setup, transform: Callable[[Any], list[Tensor]]) -> None:
        self.images, self.transform = [Image.fromarray(x.transpose(1, 2, 0)) for x in setup.images.array], transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> list[Tensor]:
        return self.transform(self.images[place])


def lightly_parts(setup: steps.Setup) -> tuple[Pictures, nn.Sequential, nn.Module]:
    """Views, network and loss, for the same images and backbone."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    info, jitter = setup.info, {"cj_prob": 0.8, "cj_bright": 0.4, "cj_contrast": 0.4, "cj_sat": 0.4, "cj_hue": 0.1}
    scale: Any = {"mean": info.mean, "std": info.std}
    transform = SimCLRTransform(info.size, min_scale=0.2, gaussian_blur=0.0, normalize=scale, **jitter)
    backbone = setup.backbone.build(info.channels)
    network = nn.Sequential(backbone, SimCLRProjectionHead(backbone.dimension, HIDDEN, OUTPUTS, batch_norm=False))
    return Pictures(setup, transform), network.to(setup.images.device), NTXentLoss(temperature=TEMPERATURE)


def lightly_epoch(setup: steps.Setup, data: Pictures, network: nn.Module, criterion: nn.Module) -> Callable[[], Tensor]:
    """Work that trains for an epoch and returns the last loss."""
    device = setup.images.device
    loading: Any = {"num_workers": available_cores(), "persistent_workers": True, "pin_memory": device.type == "cuda"}
    loader = DataLoader(data, setup.batch, shuffle=True, drop_last=True, **loading)
    optimizer = torch.optim.SGD(network.parameters(), **SGD)

    def work() -> Tensor:
        for views in loader:
            with autocast(device):
                loss = criterion(*(network(view.to(device, non_blocking=True)) for view in views))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return work


@torch.no_grad()
def check(method: Any, image: Tensor, data: Pictures, network: nn.Sequential, criterion: nn.Module) -> None:
    """Views are of one shape and brightness; the same weights make the same embeddings, and these the same loss."""
    own = method.views(torch.cat([image, image]), torch.Generator(image.device).manual_seed(0))
    normalised = torch.cat(default_collate([data[place] for place in range(len(image))])).to(image.device)
    theirs = normalised * method.network.std + method.network.mean
    assert own.shape == theirs.shape
    assert abs(own.mean() - theirs.mean()) < 0.1
    network[0].load_state_dict(method.network.backbone.state_dict())
    network[1].layers.load_state_dict(method.network.head.state_dict())
    embedded = method.network(theirs)
    assert torch.cosine_similarity(embedded, network(normalised)).min() > 0.999
    loss = nt_xent(*embedded.chunk(2), temperature=TEMPERATURE)
    torch.testing.assert_close(loss, criterion(*embedded.chunk(2)))


def side_by_side(setup: steps.Setup, length: int, rounds: int) -> Rounds:
    """Rounds of `length` steps by each; the first losses are numbers not far from that of views all alike."""
    ours, theirs = steps.trainer("pretrain", "simclr", BLOCK, setup), lightly_parts(setup)
    check(ours.method, ours.batches.at(0).image, *theirs)
    places = iter(range(length * (rounds + 1)))
    work = {
        "sslpipe": lambda: [ours.step(next(places))["loss"] for _ in range(length)][-1],
        "lightly": lightly_epoch(setup, *theirs),
    }
    assert all(-2.5 < each().item() - log(2 * setup.batch - 1) < 0.5 for each in work.values())
    return interleave(work, rounds=rounds, warmup=0)


def measure(options: Options) -> list[Table]:
    columns = ("network", "batch", "sslpipe, images/s", "lightly, images/s", "times as fast")
    if find_spec("lightly") is None:
        return [Table("SimCLR", columns, (), "Not measured: lightly is not installed.")]
    rows = []
    for name, side, batch, length, rounds in CASES:
        if options.device.type == "cuda":
            length, rounds = 128, 7
        if options.quick:
            batch, length, rounds = 8, 1, 1
        images = steps.images(batch * length, 3, side, options.device)
        timed = side_by_side(steps.Setup(BackboneSettings(name=name), images, batch), length, rounds)
        rates = [timed.rate(each, len(images)) for each in ("sslpipe", "lightly")]
        rows.append((f"{name}, {side} px", batch, *rates, timed.ratio("lightly", "sslpipe")))
    return [Table("SimCLR", columns, rows, f"Two views an image. lightly's DataLoader: {available_cores()} processes.")]
