"""Linear classifiers that watch a network's layers and leave no trace in them (Suave and Daino, section 4, table 6)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sslpipe.methods.watch import Watch
from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy


def watched_layers(network: Network, features: Tensor) -> dict[str, Tensor]:
    """The backbone's features [B, D] and what each layer of the projection makes of them, by name."""
    assert isinstance(network.head, PrototypeHead)
    layers = network.head.layers(features)
    return {"backbone": features} | {f"projection_{number}": layer for number, layer in enumerate(layers, start=1)}


class LinearMonitors(nn.Module):
    """One linear classifier a layer, trained on the labelled images behind a stop-gradient."""

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        """widths: layer → length of its output."""
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(width, classes) for name, width in widths.items()})

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Sum of their cross-entropies; outputs: layer → [B, width], target: [B] classes or [B, C] probabilities."""
        return sum(
            (cross_entropy(layer(outputs[name].detach()), target) for name, layer in self.layers.items()),
            torch.zeros((), device=target.device),
        )

    @torch.no_grad()
    def accuracies(self, network: Network, watch: Watch) -> dict[str, float]:
        """Accuracy of each on the held-out images; puts the network in eval mode."""
        network.eval()

        def answers(images: Tensor) -> Tensor:
            outputs = watched_layers(network, network.features(images))
            return torch.stack([layer(outputs[name]) for name, layer in self.layers.items()])

        logits = infer(answers, watch.images, dim=1)
        return {f"monitor/{name}_acc": watch.accuracy(each) for name, each in zip(self.layers, logits, strict=True)}
