"""A network's answers for all images of a split."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.device import autocast
from sslpipe.data.images import Images
from sslpipe.io.console import progress
from sslpipe.nets.network import Network

BATCH = 1000
"""Images a forward (own choice: the time is flat from some hundreds on)."""


@torch.no_grad()
def infer(answer: Callable[[Tensor], Tensor], images: Images, *, title: str = "", dim: int = 0) -> Tensor:
    """`answer` of the images as they are, batch after batch, joined along `dim`: float32, on the images' device.

    answer: from float [B, C, H, W] in [0, 1], of a network in eval mode. title: shows progress under that name.
    """
    parts = []
    with progress(title, len(images), "images") as bar:
        for start in range(0, len(images), BATCH):
            index = torch.arange(start, min(start + BATCH, len(images)), device=images.device)
            with autocast(images.device):
                parts.append(answer(images[index].float() / 255).float())
            bar.advance(len(index))
    return torch.cat(parts, dim=dim)


@torch.no_grad()
def head_output(network: Network, features: Tensor) -> Tensor:
    """What the head, in eval mode, makes of features [N, D] that are there already: float32 [N, …]."""
    output: Tensor = network.head(features)
    return output.float()


def probabilities(network: Network, images: Images) -> NDArray[np.float32]:
    """[N, K] softmax of a network's logits."""
    return infer(network, images, title="answers").softmax(dim=1).cpu().numpy()


def rotated_votes(network: Network, images: Images, label: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """[K, classes]: mean probability of each output over the images of each class, turned by 0, 90, 180 and 270°.

    images: labelled ones, label: [L] their classes, of which none is missing. Turned, since a trained model knows them
    as they are by heart ("Boosting SSL by unsupervised clustering", section 4.2, figure 6).
    """

    def answer(upright: Tensor) -> Tensor:
        turned = torch.cat([upright.rot90(quarter, (2, 3)) for quarter in range(4)])
        return torch.stack(network(turned).float().softmax(dim=1).chunk(4)).mean(dim=0)

    mean = infer(answer, images).double().cpu().numpy()
    return np.stack([mean[label == each].mean(axis=0) for each in range(classes)], axis=1)


def unit_features(network: Network) -> Callable[[Images], NDArray[np.float32]]:
    """A function to the backbone's features of images, [N, D], each of length 1: neighbours were mined by cosine."""
    return lambda images: F.normalize(infer(network.features, images, title="features"), dim=1).cpu().numpy()


def flat_pixels(images: Images) -> NDArray[np.float32]:
    """[N, C·H·W] in [0, 1]."""
    return images.array.reshape(len(images), -1).astype(np.float32) / np.float32(255)
