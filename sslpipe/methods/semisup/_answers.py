"""The choice between propagated labels, a linear probe and their product, by cross-validation or by a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.io.console import info
from sslpipe.nets.propagation_head import FLOOR, Answer

PRODUCT_FROM = 4
"""Labels a class from which the product answers without cross-validation, below that propagation. On CIFAR-10,
photographs and letters (features of two published networks joined, some 2,000 images each, five draws of labels) this
rule was at most 0.024 below the best of propagation, probe, product and a smoothed probe for 1 to 50 labels a class."""
TINY = np.finfo(np.float32).tiny
"""Least probability by the probe, whose logarithm is finite."""
ANSWERS: tuple[Answer, ...] = ("propagation", "probe", "product")


@dataclass(frozen=True)
class Choice:
    """An answer, and what it was chosen by."""

    answer: Answer
    reason: str
    """In words, for a line."""
    accuracies: Mapping[Answer, float]
    """Accuracy of each answer on left-out labels; empty without cross-validation."""


def product_of(propagated: NDArray[np.float32], probed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of the logarithms of two arrays of probabilities [M, C], of which it is the logits.

    propagated: where all classes are equally likely, as for an image that no labelled one reaches, the probe decides.
    """
    floor = np.float32(FLOOR)
    result: NDArray[np.float32] = np.log(np.maximum(propagated, floor)) + np.log(np.maximum(probed, TINY))
    return result


def drawn_labels(label: NDArray[np.int64], most: int, *, least: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of the labels that answers are compared on, ascending; all of them if there are no more.

    label: [L]. Of more than `most`, as many of each class are drawn as possible, but at least `least` or all.
    """
    if len(label) <= most:
        return np.arange(len(label))
    order = rng.permutation(len(label))
    rank = np.empty(len(label), dtype=np.int64)
    for each in np.unique(label):
        own = order[label[order] == each]
        rank[own] = np.arange(len(own))
    return np.flatnonzero(rank < max(np.partition(rank, most)[most], least))


def labels_to_compare(label: Tensor, most: int, *, folds: int) -> NDArray[np.int64]:
    """Return the indices of the labels [L] that `drawn_labels` keeps; a line says so if they are not all."""
    if len(label) <= most:
        return np.arange(len(label))
    rng = np.random.default_rng(int(torch.randint(2**31 - 1, ())))
    used = drawn_labels(label.numpy(), most, least=folds, rng=rng)
    info(
        f"semisup.propagation: answers and strengths are compared on {len(used)} of {len(label)} labels, drawn from "
        "each class; what predicts uses all; raise semisup.propagation.compared_labels to compare on more"
    )
    return used


def by_rule(labels: int, classes: int) -> Answer:
    """Return the answer for so many labels: propagation below PRODUCT_FROM labels a class, else the product."""
    return "propagation" if labels < PRODUCT_FROM * classes else "product"


def rule_in_words(per_class: float, least: int) -> str:
    """Return why `by_rule` has chosen an answer. least: labels of each class from which answers are compared."""
    return (
        f"by the rule for {per_class:.3g} labels a class (propagation below {PRODUCT_FROM}, else product); from "
        f"{least} labels of each class on they are compared by cross-validation"
    )


def by_cross_validation(
    outputs: Mapping[Answer, NDArray[np.float32]], label: NDArray[np.int64], *, folds: int
) -> Choice:
    """Return the answer that is most accurate on left-out labels, the product unless another is clearly better.

    outputs: answer → probabilities or logits [L, C] of each labelled image by the other folds' labels. label: [L].
    Clearly better: by more than a standard error of the difference, since some ten labels cannot tell answers apart.
    With b images that only the other answer has right and c that only the product has, that is (b - c)² > b + c.
    """
    right = {name: outputs[name].argmax(axis=1) == label for name in ANSWERS}
    accuracies: dict[Answer, float] = {name: float(right[name].mean()) for name in ANSWERS}
    chosen: Answer = "product"
    for name in ANSWERS[:2]:
        only_other = int((right[name] & ~right["product"]).sum())
        only_product = int((right["product"] & ~right[name]).sum())
        clearly = only_other - only_product > sqrt(only_other + only_product)
        if clearly and accuracies[name] > accuracies[chosen]:
            chosen = name
    figures = ", ".join(f"{name} {accuracies[name]:.3f}" for name in ANSWERS)
    reason = f"by the accuracy on left-out labels in {folds}-fold cross-validation over {len(label)}: {figures}"
    if accuracies[chosen] < max(accuracies.values()):
        reason += " (no other is better than the product by more than a standard error)"
    return Choice(chosen, reason, accuracies)
