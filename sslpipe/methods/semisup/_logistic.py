"""Multinomial logistic regression on a network's features, and its cross-validation."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.data.labelled import LabelledImages
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network
from sslpipe.objectives.supervised import cross_entropy

DEFAULT_PENALTY = 1e-3
"""Penalty without cross-validation (own choice: what cross-validation selects on digits with 4 labels a class)."""

LEAST_DEVIATION = 0.3
"""Share of the root mean square of all features' standard deviations; features with less are divided by that instead
(own choice). Of few labels some of a published network's features are nearly constant, and divided by their own
deviation they were noise in all other images: with one label a class 0.21 on photographs instead of 0.35."""

MANY, WORK = 10_000, 250_000_000
"""Labels, and labels × dimensions × classes, above which features stay in float32, and each fit of a fold starts from
the one before (own choice): with so many, rounding is far below the noise of the data, and cost counts."""
CHUNK = 8192
"""Images whose logits are in memory at a time (own choice)."""
HISTORY_BYTES = 1 << 29
"""Memory for the steps that L-BFGS remembers, at most 100 (torch's default) and at least 10 of them (own choice)."""


def is_large(features: Tensor, label: Tensor) -> bool:
    """Return whether a regression of labels [L] on features [L, D] is above MANY or WORK."""
    return len(features) > MANY or features.numel() * (int(label.max()) + 1) > WORK


def solvable(features: Tensor, label: Tensor) -> Tensor:
    """Return features [L, D] in the type in which the regression is solved: float64, or float32 if it is large."""
    return features.float() if is_large(features, label) else features.double()


def labelled_features(
    network: Network, labelled: LabelledImages, stored: NDArray[np.float16] | None = None
) -> tuple[Tensor, Tensor]:
    """Features [L, D] of the labelled images without augmentation, in the type of `solvable`, and their classes [L].

    They are on the images' device, or on the CPU if that is an Apple GPU, which has no float64. stored: [N, D], those
    of all training images by the network's backbone, which are then not computed; they may lie in a file.
    """
    if stored is None:
        training = network.training
        features = infer(network.eval().features, labelled.images.subset(labelled.index))
        network.train(training)
    else:
        features = torch.from_numpy(stored[labelled.index.cpu().numpy()]).to(labelled.index.device)
    label = labelled.label
    if features.device.type == "mps":
        features, label = features.cpu(), label.cpu()
    return solvable(features, label), label


Solution = tuple[Tensor, Tensor]
"""Weights [C, D] and biases [C]."""


def regress(
    features: Tensor,
    label: Tensor,
    penalty: float,
    iterations: int,
    *,
    standardize: bool = True,
    start: Solution | None = None,
) -> Solution:
    """Weights [C, D] and biases [C] that minimise mean cross-entropy + penalty/2 · |W|², by L-BFGS.

    features: [L, D], in whose type it is solved. label: [L]; every class occurs. standardize: whether the penalty
    applies to the weights of standardised features (see LEAST_DEVIATION) instead of those of the features as they are.
    start: a solution to begin with, such as that of another penalty; None: 0.
    """
    mean, std = features.mean(dim=0), features.std(dim=0)
    usual = std.square().mean().sqrt().clamp(min=1e-8)
    if standardize:
        std = std.clamp(min=LEAST_DEVIATION * usual)
    else:  # one scale for all, which only helps the solver
        std = usual
        penalty = penalty / float(std) ** 2
    features = (features - mean) / std
    classes = int(label.max()) + 1
    weight = features.new_zeros(classes, features.shape[1])
    bias = features.new_zeros(classes)
    if start is not None:
        weight, bias = start[0] * std, start[1] + start[0] @ mean
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    remembered = min(100, max(10, HISTORY_BYTES // (2 * weight.nbytes)))  # each step has a change and a gradient's
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, history_size=remembered, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        total = penalty / 2 * weight.square().sum()
        for rows, known in zip(torch.split(features, CHUNK), torch.split(label, CHUNK), strict=True):
            # In the features' type: rounded to float32, float64's loss would lead the line search astray.
            part = F.cross_entropy(rows @ weight.T + bias, known) * (len(rows) / len(features))
            if len(rows) == len(features):
                total = part + total
            else:  # the graph of this chunk is not needed for the next one
                part.backward()  # type: ignore[no-untyped-call]
                total = total + part.detach()
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach()

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


def stratified_folds(label: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    """For each fold the indices [·] of the labels outside and of those inside it; label: [L], on any device.

    Each class is divided as evenly as possible. folds: at least 2, at most as many as the rarest class has labels.
    """
    from sklearn.model_selection import StratifiedKFold  # it takes a second to load; most methods have no folds

    known = label.cpu().numpy()
    return [
        (torch.from_numpy(others).to(label.device), torch.from_numpy(inside).to(label.device))
        for others, inside in StratifiedKFold(folds).split(known, known)
    ]


def left_out_logits(
    features: Tensor,
    label: Tensor,
    folds: Iterable[tuple[Tensor, Tensor]],
    penalties: Iterable[float],
    iterations: int,
    *,
    standardize: bool = True,
    warm: bool = True,
) -> Iterator[tuple[Tensor, float, Tensor]]:
    """Yield for each fold and penalty the indices [M] inside the fold, the penalty and the logits [M, C].

    The logits are those of the regression on the other folds. features: [L, D]. label: [L]. folds: of
    `stratified_folds`. The penalties of a fold are solved from the largest to the smallest. warm: each starts from the
    solution before, which is close to its own, instead of from 0. The other parameters are those of `regress`.
    """
    order = sorted(set(penalties), reverse=True)
    for others, inside in folds:
        rows, known, left_out = features[others], label[others], features[inside]
        start: Solution | None = None
        for penalty in order:
            weight, bias = regress(rows, known, penalty, iterations, standardize=standardize, start=start)
            start = (weight, bias) if warm else None
            yield inside, penalty, left_out @ weight.T + bias


def left_out_loss(logits: Tensor, label: Tensor, folds: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The cross-entropy of left-out logits [L, C], the mean over the folds."""
    losses = [float(cross_entropy(logits[inside], label[inside])) for _, inside in folds]
    return sum(losses) / len(losses)


def penalty_losses(
    features: Tensor,
    label: Tensor,
    folds: Sequence[tuple[Tensor, Tensor]],
    penalties: Sequence[float],
    iterations: int,
) -> dict[float, float]:
    """Penalty → the cross-entropy of images that are left out, the mean over the folds.

    The parameters are those of `left_out_logits`; it is warm if the regression is large.
    """
    losses = dict.fromkeys(penalties, 0.0)
    found = left_out_logits(features, label, folds, penalties, iterations, warm=is_large(features, label))
    for inside, penalty, logits in found:
        losses[penalty] += float(cross_entropy(logits, label[inside])) / len(folds)
    return losses
