"""Few labels on stored features: labels propagated over the graph of mined neighbours, a linear probe, or both.

Label propagation is that of Zhou et al. 2004 ("Learning with local and global consistency"). Nothing is trained by
gradient descent, and the backbone stays as it is.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslpipe.io.console import info, progress
from sslpipe.io.errors import UserError
from sslpipe.io.settings import BelowOne, Count, Positive, TwoOrMore
from sslpipe.methods.semisup._answers import (
    TINY,
    Choice,
    by_cross_validation,
    by_rule,
    labels_to_compare,
    product_of,
    rule_in_words,
)
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._feature_probe import (
    Probe,
    best_strength,
    fit_probe,
    left_out_probes,
    principal_basis,
    reduced_features,
)
from sslpipe.methods.semisup._logistic import set_classifier, stratified_folds
from sslpipe.neighbors.propagation import Graph, Propagated, neighbor_graph, propagate
from sslpipe.nets.network import Network
from sslpipe.nets.propagation_head import FLOOR, Answer, PropagationHead, PropagationSettings

WHERE = "semisup.propagation"
NEIGHBORS = 20
"""Neighbours in the graph of the measurements that `_answers.PRODUCT_FROM` cites."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults: the graph and α of the measurements that `_answers.PRODUCT_FROM` cites."""

    reads_features: ClassVar[bool] = True
    """The method reads the outputs of the stages features and mine-neighbors."""

    answer: Literal["cross_validated", "propagation", "probe", "product"] = "cross_validated"
    """What predicts. propagation: labels propagated over the graph of neighbours, best up to some three labels a class.
    probe: a logistic regression of the labelled images' features. product: the sum of both log-probabilities.
    cross_validated: the best on left-out labels; with few, propagation below four a class, product from four on."""
    least_labels: TwoOrMore = 5
    """Labels of the rarest class from which `cross_validated` compares the answers. At 5, each of 5 folds leaves four,
    where propagation and product are about equally good (own choice). More: comparisons are made more rarely."""
    folds: TwoOrMore = 5
    """Number of folds; at most as many as the rarest class has labels. More: a surer choice, slower."""
    compared_labels: Count = 10_000
    """Labels that the answers and the strengths are compared on, drawn in equal number from each class if there are
    more (own choice: some minutes with 100 classes, in proportion to the labels). More: a surer choice, slower."""
    neighbors: Count | None = None
    """Mined neighbours of each image in the graph, and images that the classes of a new image come from; null: 20, or
    mine_neighbors.k if fewer are mined, as for a few images. More: labels reach further, over more wrong links."""
    power: Positive = 3.0
    """Power of the cosine that is a neighbour's weight (Iscen et al. 2019, arXiv:1904.04717). Larger: the most similar
    neighbours count more."""
    alpha: BelowOne = 0.99
    """α of F = (I - αS)⁻¹ Y: the share of an image's scores that comes from its neighbours. Larger: labels reach
    further, and an image's own label counts less."""
    strengths: tuple[Positive, ...] = (1.0, 10.0, 100.0, 1000.0)
    """Candidates for C of the probe, which minimises C · (sum of cross-entropies) + |W|²/2 on unit features. The one
    with the lowest cross-entropy of the answer on left-out labels is used, 10 where a class has one label (own choice:
    decades around 10). Larger: labels are fitted more exactly, predictions more certain."""
    iterations: Count = 200
    """Maximum number of L-BFGS iterations of the probe. More: closer to its minimum, if it is not reached before."""
    components: TwoOrMore = 256
    """Dimension that unit features are reduced to, by their mean and principal components, if they have more. More:
    finer differences between images, slower, a larger model (at 256, 512 bytes for each training image)."""
    fit: None = None
    """Everything is solved when the method is built; there is nothing to train."""

    def __post_init__(self) -> None:
        if not self.strengths:
            raise UserError("strengths: no number found, expected at least one")


class Method(nn.Module):
    """The start's network with a head of propagated labels, a probe, or both; its backbone stays as it is."""

    collapse_hint = "label more images, or start from another model"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        self.network, self.problem = problem.network, problem
        features, graph, neighbors = _stored(problem, settings)
        index, label = problem.labelled.index.cpu().numpy(), problem.labelled.label.cpu()
        basis = principal_basis(features, settings.components)
        unit = reduced_features(features, basis)
        self.solution = _solve(settings, graph, index, label, unit, problem.labelled.classes)
        _report(self.solution, settings)
        probability, weight = _bank(self.solution, graph, unit)
        self.network.head = _head(self.solution, settings, neighbors, basis, unit, probability, weight).to(
            self.network.mean.device
        )
        self.logits = _logits(self.solution, unit, probability)

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def training_logits(self) -> Tensor:
        """Logits [N, C] of all training images, which need no search for their nearest images."""
        return torch.from_numpy(self.logits)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """The one row of the history: number of labels, and accuracies on left-out labels and on held-out images."""
        row: dict[str, float] = {"labels": len(self.problem.labelled)}
        row |= {f"left_out_acc/{name}": value for name, value in self.solution.choice.accuracies.items()}
        return row | self.problem.stored_held_out_acc()


@dataclass(frozen=True)
class _Solution:
    """What has been solved: an answer, and what it needs."""

    choice: Choice
    propagated: Propagated | None
    """None for a probe alone."""
    probe: Probe | None
    """None for propagation that reaches all images."""
    reached: NDArray[np.bool_]
    """[N], whether the graph connects an image with a labelled one."""
    labels: int
    classes: int


def _stored(problem: Problem, settings: Settings) -> tuple[NDArray[Any], Graph, int]:
    """The stored features [N, D] of the training images, their graph, and its number of neighbours."""
    if problem.features is None or problem.neighbors is None or problem.similarities is None:
        raise ValueError("semisup.propagation: no stored features and neighbours given")
    mined = problem.neighbors.shape[1]
    neighbors = settings.neighbors or min(NEIGHBORS, mined)
    if mined < neighbors:
        raise UserError(f"{WHERE}.neighbors: {neighbors} asked, {mined} mined; raise mine_neighbors.k")
    graph = neighbor_graph(problem.neighbors[:, :neighbors], problem.similarities[:, :neighbors], power=settings.power)
    return problem.features, graph, neighbors


def _solve(
    settings: Settings, graph: Graph, index: NDArray[np.int64], label: Tensor, unit: NDArray[np.float16], classes: int
) -> _Solution:
    """Propagate the labels and fit the probe, as far as they are needed, and choose the answer.

    index, label: [L], the labelled images and their classes. unit: [N, d], reduced unit features of all images.
    """
    rarest = int(label.bincount(minlength=classes).min())
    count = min(settings.folds, rarest)
    used = labels_to_compare(label, settings.compared_labels, folds=count) if rarest > 1 else np.arange(len(index))
    few = label[used]
    folds = stratified_folds(few, count) if rarest > 1 else []
    compared = settings.answer == "cross_validated" and rarest >= settings.least_labels
    answer = by_rule(len(index), classes) if settings.answer == "cross_validated" else settings.answer
    reached, propagated, left_out = graph.reached(index), None, None
    if compared or answer != "probe":
        divided = folds if compared or answer == "product" else []
        fold = np.full(len(index), -1 if divided else 0, dtype=np.int64)
        for number, (_, inside) in enumerate(divided):
            fold[used[inside.numpy()]] = number
        propagated = _propagate(settings, graph, index, label.numpy(), classes, fold)
        left_out = propagated.left_out(fold[used]) if divided else None
    choice, probe = Choice(answer, "", {}), None
    if compared or answer != "propagation" or not reached.all():
        known = unit[index].astype(np.float32)
        probed = left_out_probes(known[used], few, settings.strengths, folds, settings.iterations) if folds else {}
        strengths = {"probe": best_strength(probed, few, folds), "product": best_strength(probed, few, folds, left_out)}
        if compared:
            assert left_out is not None
            outputs: dict[Answer, NDArray[np.float32]] = {
                "propagation": left_out,
                "probe": probed[strengths["probe"]],
                "product": product_of(left_out, probed[strengths["product"]]),
            }
            choice = by_cross_validation(outputs, few.numpy(), folds=len(folds))
        strength = strengths["product" if choice.answer == "product" else "probe"]
        probe = fit_probe(known, label, strength, settings.iterations)
    return _Solution(choice, propagated, probe, reached, len(index), classes)


def _propagate(
    settings: Settings,
    graph: Graph,
    index: NDArray[np.int64],
    label: NDArray[np.int64],
    classes: int,
    fold: NDArray[np.int64],
) -> Propagated:
    """Propagate the labels, those of each fold by themselves, with a progress bar."""
    sides = len(np.unique(np.stack([label, fold]), axis=1).T)
    with progress(WHERE, sides, "right-hand sides") as bar:
        try:
            return propagate(graph, index, label, classes=classes, alpha=settings.alpha, part=fold, advance=bar.advance)
        except ArithmeticError as error:
            raise UserError(f"{WHERE}.alpha: {settings.alpha:g} is too close to 1 ({error}); lower it") from None


def _report(solution: _Solution, settings: Settings) -> None:
    """Print a line that says what predicts and why, and one if the graph does not connect all images with labels."""
    answer, per_class = solution.choice.answer, solution.labels / solution.classes
    if settings.answer == "cross_validated":
        reason = solution.choice.reason or rule_in_words(per_class, settings.least_labels)
        info(f"{WHERE}: {answer} predicts, {reason}; another: {WHERE}.answer")
    if solution.probe is not None and answer != "propagation":
        info(f"{WHERE}: probe with strength {solution.probe.strength:g}")
    missed = int((~solution.reached).sum())
    if missed and answer != "probe":
        info(
            f"{WHERE}: {missed} of {len(solution.reached)} training images have no path over neighbours to a labelled "
            "one, so the probe alone predicts them; label some of them, or raise mine_neighbors.k and neighbors"
        )


def _bank(
    solution: _Solution, graph: Graph, unit: NDArray[np.float16]
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Probabilities [N, C] by propagation and weights [N] of the head's bank; None for a probe alone.

    Images that no labelled one reaches have the probe's probabilities, which all are equal in a product, since it has
    the probe anyway; their weight is the median of the others'.
    """
    propagated, missed = solution.propagated, ~solution.reached
    if solution.choice.answer == "probe" or propagated is None:
        return None, None
    probability, total = propagated.probabilities(), propagated.totals()
    if solution.choice.answer == "propagation" and missed.any():
        assert solution.probe is not None
        probability[missed] = solution.probe.probabilities(unit[missed])
    degree = graph.degree
    usual = (total > 0) & (degree > 0)
    weight = np.zeros(len(total), dtype=np.float32)
    weight[usual] = total[usual] / np.sqrt(degree[usual])
    median = np.median(weight[usual]) if usual.any() else np.float32(1)
    weight[~usual] = median
    return probability, weight / median


def _head(
    solution: _Solution,
    settings: Settings,
    neighbors: int,
    basis: NDArray[np.float32] | None,
    unit: NDArray[np.float16],
    probability: NDArray[np.float32] | None,
    weight: NDArray[np.float32] | None,
) -> PropagationHead:
    """The head that predicts as the solution does, on the CPU."""
    answer, probe = solution.choice.answer, solution.probe
    chosen = PropagationSettings(
        answer=answer,
        classes=solution.classes,
        images=None if answer == "probe" else len(unit),
        components=None if basis is None else unit.shape[1],
        neighbors=neighbors,
        power=settings.power,
    )
    with torch.no_grad():
        head = PropagationHead(unit.shape[1] if basis is None else len(basis), chosen)
        if basis is not None:
            head.basis.copy_(torch.from_numpy(basis))
        if probability is not None and weight is not None:
            head.bank.copy_(torch.from_numpy(unit))
            head.probability.copy_(torch.from_numpy(probability))
            head.weight.copy_(torch.from_numpy(weight))
        if head.probe is not None:
            assert probe is not None
            set_classifier(head.probe, probe.weight, probe.bias)
    return head


def _logits(
    solution: _Solution, unit: NDArray[np.float16], probability: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """The logits [N, C] of the training images; probability: [N, C], by propagation."""
    answer, probe = solution.choice.answer, solution.probe
    if answer == "propagation":
        assert probability is not None
        return np.log(np.maximum(probability, np.float32(FLOOR)))
    assert probe is not None
    probed = probe.probabilities(unit)
    if answer == "probe":
        return np.log(np.maximum(probed, TINY))
    assert probability is not None
    return product_of(probability, probed)
