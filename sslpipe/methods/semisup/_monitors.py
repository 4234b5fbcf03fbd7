"""Training and held-out accuracy of the linear classifiers on a network's layers (Suave and Daino, section 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sslpipe.data.held_out import HeldOut
from sslpipe.nets.inference import infer
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy


def monitor_loss(
    monitors: LinearMonitors, outputs: Sequence[Tensor], target: Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """Return the sum of the classifiers' cross-entropies, a scalar; only the classifiers get a gradient.

    outputs: [B, width] of each layer, for labelled images; target: classes [B] or probabilities [B, C].
    """
    logits = monitors(outputs)
    return torch.stack([cross_entropy(each, target, smoothing=smoothing) for each in logits]).sum()


def monitor_accuracies(monitors: LinearMonitors, network: Network, held_out: HeldOut) -> dict[str, float]:
    """Return the accuracy of each classifier on the held-out images; puts the network in eval mode."""
    network.eval()
    # The classes alone, [L, M]: the logits of all classifiers would be L times those of the network.
    found = infer(lambda images: monitors.logits(network, images).argmax(dim=2), held_out.images, dim=1)
    return {f"monitor/{name}_acc": held_out.share_of(each) for name, each in zip(monitors.names, found, strict=True)}
