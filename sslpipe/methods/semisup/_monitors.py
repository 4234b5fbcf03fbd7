"""Linear classifiers on a network's layers, trained without changing them (Suave and Daino, section 4, table 6)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sslpipe.data.held_out import HeldOut
from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy


class LinearMonitors(nn.Module):
    """One linear classifier for each layer, trained on the labelled images behind a stop-gradient."""

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        """widths: layer → length of its output, for the backbone and each layer of the projection."""
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(width, classes) for name, width in widths.items()})

    def loss(self, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        """Sum of the cross-entropies; outputs: [B, width] per layer; target: classes [B] or probabilities [B, C]."""
        pairs = zip(self.layers.values(), outputs, strict=True)
        return torch.stack([cross_entropy(layer(output.detach()), target) for layer, output in pairs]).sum()

    def accuracies(self, network: Network, held_out: HeldOut) -> dict[str, float]:
        """Accuracy of each classifier on the held-out images; puts the network in eval mode."""
        network.eval()

        def outputs(images: Tensor) -> Tensor:
            assert isinstance(network.head, PrototypeHead)
            features = network.features(images)
            layers = [features, *network.head.layers(features)]
            return torch.stack([layer(output) for layer, output in zip(self.layers.values(), layers, strict=True)])

        logits = infer(outputs, held_out.images, dim=1)
        return {f"monitor/{name}_acc": held_out.accuracy(each) for name, each in zip(self.layers, logits, strict=True)}
