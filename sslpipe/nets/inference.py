"""Outputs of a network for all images of a split."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.data.device import autocast
from sslpipe.data.images import Images, central_square
from sslpipe.io.console import progress
from sslpipe.nets.network import Network

BATCH = 1000
"""Images per forward on a GPU, and rows of stored features per forward of a head (own choice)."""
CPU_BATCH = 64
"""Images per forward on a CPU, at most (own choice). tiny_resnet at 32 px takes 0.40 ms of one thread for an image by
64 in channels last, 0.35 by 256, and 1.06 by 1,000 in the usual format: large activations are mapped anew for each
layer, and 57 % of that time are page faults."""
CPU_PIXELS = CPU_BATCH * 96**2
"""Pixels of a batch on a CPU, at most (own choice): ResNet-18 at 96 px takes 7.0 ms by 64 and 9.0 by 256, ResNet-50 at
224 px 108 ms by 8 and 126 by 32."""
LEAST = 8
"""Images per forward on a CPU, at least, whatever their size (own choice)."""


def batch_size(shape: Sequence[int], device: torch.device) -> int:
    """Return the number of images per forward for images of a shape [..., H, W]: fewer on a CPU."""
    if device.type != "cpu":
        return BATCH
    return min(CPU_BATCH, max(LEAST, CPU_PIXELS // max(1, shape[-2] * shape[-1])))


def to_input(images: Tensor) -> Tensor:
    """Return uint8 images [B, C, H, W] as a network's input, in [0, 1]; on a CPU in channels last, which is faster."""
    if images.device.type == "cpu":
        images = images.contiguous(memory_format=torch.channels_last)
    return images.float() / 255


@torch.no_grad()
def in_parts(forward: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Return the outputs of `forward` for a batch [B, C, H, W] that may be larger than is fast: float32."""
    parts = torch.split(batch, batch_size(batch.shape, batch.device))
    if batch.device.type == "cpu":
        parts = tuple(part.contiguous(memory_format=torch.channels_last) for part in parts)
    with autocast(batch.device):
        return torch.cat([forward(part).float() for part in parts])


@torch.no_grad()
def infer(forward: Callable[[Tensor], Tensor], images: Images, *, title: str = "", dim: int = 0) -> Tensor:
    """Return the outputs of `forward` for all images, without augmentation: float32, on the images' device.

    forward: a function of float images [B, C, H, W] in [0, 1], such as a network in eval mode. title: name of the
    progress bar; "" shows none. dim: dimension along which the outputs of the batches are concatenated.
    """
    output: Tensor | None = None
    size = batch_size(images.array.shape, images.device)
    with progress(title, len(images), "images") as bar:
        for start in range(0, len(images), size):
            part = images.part(start, start + size)
            with autocast(images.device):
                few = forward(to_input(part)).float()
            if output is None:
                shape = list(few.shape)
                shape[dim] = len(images)
                output = few.new_empty(shape)
            output.narrow(dim, start, len(part)).copy_(few)
            bar.advance(len(part))
    if output is None:
        raise ValueError("images: none found, expected at least one")
    return output


@torch.no_grad()
def head_output(network: Network, features: Tensor) -> Tensor:
    """Return the output of the head, in eval mode, for features that were computed before: float32 [N, …].

    features: [N, D] of any floating type; they are converted to float32 in batches.
    """
    return torch.cat([network.head(batch.float()).float() for batch in torch.split(features, BATCH)])


def head_logits(network: Network, features: NDArray[Any]) -> Tensor:
    """Return the output of the head, in eval mode, for stored features [N, D] of any type: float32 [N, …]."""
    return logits_of(network.eval().head, features, network.mean.device)


@torch.no_grad()
def logits_of(head: nn.Module, features: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Return the output of a head on a device, float32 [N, …], for stored features [N, D] of any type.

    The features are read in chunks, so that those in a file need not fit into memory.
    """
    return torch.cat([head(rows.float()).float() for rows in feature_chunks(features, device, size=BATCH)])


def feature_chunks(features: NDArray[Any] | Tensor, device: torch.device, *, size: int) -> Iterator[Tensor]:
    """Yield `size` rows of stored features [N, D] at a time, on a device, in the type that they have."""
    for start in range(0, len(features), size):
        rows = features[start : start + size]
        yield (rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))).to(device)


def probabilities(network: Network, images: Images) -> NDArray[np.float32]:
    """Return the softmax of a network's logits, [N, K]."""
    return infer(lambda batch: network(batch).float().softmax(dim=1), images, title="predictions").cpu().numpy()


def head_probabilities(network: Network, features: Tensor) -> NDArray[np.float32]:
    """Return the softmax of the logits of a network's head for features [N, D], [N, K]."""
    return head_output(network, features).softmax(dim=1).cpu().numpy()


def rotated_votes(network: Network, images: Images, label: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the mean probability of each output for the images of each class, [K, classes], over four rotations.

    images: labelled images; label: [L], their classes; every class has an image. The images are rotated by 0, 90, 180
    and 270°, because a trained model has memorised the upright labelled images ("Boosting SSL", Lerner et al. 2020,
    arXiv:2012.00504, section 4.2 and figure 6). They pass the network once in each rotation.
    """

    def mean_probability(upright: Tensor) -> Tensor:
        total: Tensor = network(upright).float().softmax(dim=1)
        for rotation in range(1, 4):
            total += network(upright.rot90(rotation, (2, 3))).float().softmax(dim=1)
        return total / 4

    mean = infer(mean_probability, images).cpu().numpy()
    order = np.argsort(label, kind="stable")
    counts = np.bincount(label, minlength=classes)
    ends = np.cumsum(counts)
    # A class at a time in double precision: neither a mask over all labels nor a copy of all rows for each class.
    means = [
        mean[order[end - count : end]].mean(axis=0, dtype=np.float64) for count, end in zip(counts, ends, strict=True)
    ]
    return np.stack(means, axis=1)


def unit_features(network: Network) -> Callable[[Images], NDArray[np.float32]]:
    """Return a function from images to the backbone's L2-normalised features [N, D], as used to mine neighbours."""
    return lambda images: F.normalize(infer(network.features, images), dim=1).cpu().numpy()


def flat_pixels(images: Images, side: int | None = None) -> NDArray[np.float32]:
    """Return the pixel values of the images, [N, C·H·W] in [0, 1]; of their central squares where `side` is given."""
    array = images.array if isinstance(images.array, np.ndarray) else images.array[np.arange(len(images))]
    pixels = (array if side is None else central_square(array, side)).astype(np.float32)
    pixels /= np.float32(255)
    return pixels.reshape(len(images), -1)
