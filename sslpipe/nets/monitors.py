"""Linear classifiers on a network's layers, which are trained beside it without changing it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.network import Network


class LinearMonitors(nn.Module):
    """A linear classifier on the backbone and on each layer of the projection (Suave, arXiv:2306.07483, table 6).

    Its state_dict contains layers.<layer>.weight and .bias for the layers backbone, projection_1, projection_2, ...
    """

    def __init__(self, network: Network) -> None:
        """network: its head is a projection with one prototype for each class."""
        super().__init__()
        form = _head(network).settings
        widths = {"backbone": network.backbone.dimension}
        widths |= {f"projection_{layer}": form.hidden for layer in range(1, form.depth)}
        widths[f"projection_{form.depth}"] = form.outputs
        self.layers = nn.ModuleDict({name: nn.Linear(width, form.prototypes) for name, width in widths.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """The layers that have a classifier, in the order of the forward pass."""
        return tuple(self.layers)

    def forward(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return each classifier's logits [B, C] for its layer's output [B, width], behind a stop-gradient."""
        pairs = zip(self.layers.values(), outputs, strict=True)
        return [layer(output.detach()) for layer, output in pairs]

    def logits(self, network: Network, images: Tensor) -> Tensor:
        """Return the logits [L, B, C] of the L classifiers for float images [B, C, H, W] in [0, 1]."""
        features = network.features(images)
        return torch.stack(self(self._outputs(network, features)))

    def layer_logits(self, network: Network, name: str, features: Tensor) -> Tensor:
        """Return the logits [B, C] of one classifier for the backbone's features [B, D]."""
        logits: Tensor = self.layers[name](self._outputs(network, features)[self.names.index(name)])
        return logits

    @staticmethod
    def _outputs(network: Network, features: Tensor) -> list[Tensor]:
        """Return the outputs [B, width] of the layers for the backbone's features [B, D]."""
        return [features, *_head(network).layers(features)]


def _head(network: Network) -> PrototypeHead:
    assert isinstance(network.head, PrototypeHead)
    return network.head
