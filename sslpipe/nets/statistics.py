"""Batch-norm statistics of a finished network."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from sslpipe.data.images import Images
from sslpipe.nets.inference import BATCH, to_input
from sslpipe.nets.network import Network


def recompute_statistics(network: Network, images: Images) -> None:
    """Replace the running statistics of all batch norms by those of the images, without augmentation.

    A network that is trained on augmented views has running statistics of these, which those of the images differ from.
    Each statistic is the mean over equally large batches, in float32. A network without batch norms is unchanged.
    """
    parts = max(1, -(-len(images) // BATCH))

    def batches() -> Iterator[Tensor]:
        # Every parts-th image, so that images in the order of their classes are spread over all batches.
        for part in range(parts):
            index = torch.arange(part, len(images), parts, device=images.device)
            yield to_input(images[index])

    update_bn(batches(), network)
