"""Multinomial logistic regression on a network's features."""

import torch
from torch import Tensor, nn

from sslpipe.data.labelled import LabelledImages
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy

DEFAULT_PENALTY = 1e-3
"""Penalty without cross-validation (own choice: what cross-validation selects on digits with 4 labels a class)."""


def labelled_features(network: Network, labelled: LabelledImages) -> tuple[Tensor, Tensor]:
    """Features [L, D], float64, of the labelled images without augmentation, and their classes [L]."""
    training = network.training
    features = infer(network.eval().features, labelled.images.subset(labelled.index))
    network.train(training)
    return features.double(), labelled.label


def regress(features: Tensor, label: Tensor, penalty: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Weights [C, D] and biases [C] that minimise mean cross-entropy + penalty/2 · |W|², by L-BFGS.

    features: [L, D]; they are standardised, and the penalty applies to the weights of the standardised features.
    label: [L]; every class occurs.
    """
    mean, std = features.mean(dim=0), features.std(dim=0).clamp(min=1e-8)
    features = (features - mean) / std
    classes = int(label.max()) + 1
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = cross_entropy(features @ weight.T + bias, label) + penalty / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    weight = weight.detach() / std
    return weight, bias.detach() - weight @ mean


@torch.no_grad()
def set_classifier(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Set the weights and biases of a layer."""
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def fit_classifier(layer: nn.Module, network: Network, labelled: LabelledImages) -> None:
    """Set a linear layer on the network's backbone to the logistic regression of the labelled images' features."""
    assert isinstance(layer, nn.Linear)
    set_classifier(layer, *regress(*labelled_features(network, labelled), DEFAULT_PENALTY, 200))
