"""Linear classifiers on a network's layers, trained without changing them (Suave and Daino, section 4, table 6)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sslpipe.data.held_out import HeldOut
from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy


def layer_outputs(network: Network, features: Tensor) -> dict[str, Tensor]:
    """The backbone's features [B, D] and the outputs of each layer of the projection, by name."""
    assert isinstance(network.head, PrototypeHead)
    layers = network.head.layers(features)
    return {"backbone": features} | {f"projection_{number}": layer for number, layer in enumerate(layers, start=1)}


class LinearMonitors(nn.Module):
    """One linear classifier for each layer, trained on the labelled images behind a stop-gradient."""

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        """widths: layer → length of its output."""
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(width, classes) for name, width in widths.items()})

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Sum of the cross-entropies; outputs: layer → [B, width], target: [B] classes or [B, C] probabilities."""
        return sum(
            (cross_entropy(layer(outputs[name].detach()), target) for name, layer in self.layers.items()),
            torch.zeros((), device=target.device),
        )

    @torch.no_grad()
    def accuracies(self, network: Network, held_out: HeldOut) -> dict[str, float]:
        """Accuracy of each classifier on the held-out images; puts the network in eval mode."""
        network.eval()

        def outputs(images: Tensor) -> Tensor:
            layers = layer_outputs(network, network.features(images))
            return torch.stack([layer(layers[name]) for name, layer in self.layers.items()])

        logits = infer(outputs, held_out.images, dim=1)
        return {f"monitor/{name}_acc": held_out.accuracy(each) for name, each in zip(self.layers, logits, strict=True)}
