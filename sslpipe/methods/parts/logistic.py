"""Multinomial logistic regression on a network's features."""

import torch
from torch import Tensor

from sslpipe.data.labelled import LabelledImages
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy

DEFAULT_PENALTY = 1e-3
"""Where nothing is left out to choose by (own choice: what cross-validation finds on digits, 4 labels a class)."""


def labelled_features(network: Network, labelled: LabelledImages) -> tuple[Tensor, Tensor]:
    """Features [L, D] of the labelled images as they are, float64, and their classes [L]."""
    training = network.training
    features = infer(network.eval().features, labelled.images.subset(labelled.index))
    network.train(training)
    return features.double(), labelled.label


def regress(features: Tensor, label: Tensor, penalty: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Weights [C, D] and biases [C] of least mean cross-entropy + penalty/2 · |W|², by L-BFGS.

    features: [L, D], standardised on the way, so that the penalty is of the standardised features' weights.
    label: [L], with all classes.
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
def set_classifier(layer: torch.nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Put weights and biases into a layer."""
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
