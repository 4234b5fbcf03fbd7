"""Matching of clusters to classes by a few labels, with its probability."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.labelled import LabelledImages
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.metrics.mappings import k_best_mappings
from sslpipe.nets.heads import Classifier, outputs
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network

LEAST_PROBABILITY = 0.01
"""Least probability of an image's true cluster: cluster heads are overconfident (own choice)."""
EXACT = 16
"""Up to so many clusters the probability is exact; with more it is taken over the best MAPPINGS mappings."""
MAPPINGS = 100
"""Number of mappings in figure 6 of "Boosting SSL" (Lerner et al. 2020, arXiv:2012.00504)."""


@dataclass(frozen=True)
class Naming:
    """The class of each cluster, and the probability of this mapping."""

    classes: NDArray[np.int64]
    """[K] the class of each cluster."""
    agreement: float
    """Share of the labelled images whose most probable cluster has their class."""
    probability: float
    """Posterior probability of this one-to-one mapping under a uniform prior."""
    cluster_probability: NDArray[np.float64]
    """[K], posterior probability of each cluster's class."""


def name_clusters(probability: NDArray[np.float32], label: NDArray[np.int64], classes: int) -> Naming:
    """The one-to-one mapping of clusters to classes under which the labels are likeliest (Hungarian matching).

    probability: [L, K] of each labelled image's clusters, K = classes. label: [L].
    The score of cluster k as class c is Σ log p(k | x) over the labelled images x of class c.
    """
    score = np.zeros((classes, classes))
    np.add.at(score.T, label, np.log(np.maximum(probability, LEAST_PROBABILITY)))
    ranked = k_best_mappings(score, MAPPINGS if classes > EXACT else 1)
    total, best = ranked[0]
    agreement = float((best[probability.argmax(axis=1)] == label).mean())
    if classes > EXACT:
        weight = np.exp(np.array([other for other, _ in ranked]) - total)
        same = np.stack([mapping == best for _, mapping in ranked])
        return Naming(best, agreement, float(weight[0] / weight.sum()), weight @ same / weight.sum())
    evidence, share = permanent_shares(score - score[np.arange(classes), best][:, None])
    return Naming(best, agreement, 1 / evidence, share[np.arange(classes), best])


def permanent_shares(score: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Σ exp(score of a mapping) over all one-to-one mappings, and the share of it that each pair has; [K, K].

    score: [K, K], log-weights of cluster k as class c, of which the best mapping's sum is near 0. By the sets of
    classes that the first clusters take, 2^K of them.
    """
    clusters = len(score)
    weight, sets = np.exp(score), np.arange(2**clusters)
    ways = [np.zeros(len(sets))]
    ways[0][0] = 1.0
    for row in weight:
        taken = np.zeros(len(sets))
        for each, value in enumerate(row):
            without = sets[(sets >> each) & 1 == 0]
            taken[without | (1 << each)] += ways[-1][without] * value
        ways.append(taken)
    rest = np.zeros(len(sets))
    rest[-1] = 1.0
    shares = np.zeros_like(score)
    for cluster in reversed(range(clusters)):
        before = np.zeros(len(sets))
        for each in range(clusters):
            without = sets[(sets >> each) & 1 == 0]
            onwards = rest[without | (1 << each)] * weight[cluster, each]
            shares[cluster, each] = (ways[cluster][without] * onwards).sum()
            before[without] += onwards
        rest = before
    evidence = float(ways[-1][-1])
    return evidence, shares / evidence


def named_head(network: Network, labelled: LabelledImages, folder: Path) -> Classifier:
    """The cluster head with its outputs in the order of the classes; prints the mapping's probability."""
    head = network.head
    if not isinstance(head, Classifier) or outputs(head) != labelled.classes:
        found = outputs(head) or "no"
        raise UserError(
            f"{folder}: {found} clusters found, expected {labelled.classes}, one per class; "
            "set cluster.clusters, or start from pretrain"
        )
    network.eval()
    device = labelled.images.device
    logits = infer(network.to(device), labelled.images.subset(labelled.index)).cpu()
    naming = name_clusters(logits.softmax(dim=1).numpy(), labelled.label.cpu().numpy(), labelled.classes)
    names = labelled.names
    info(
        f"{folder}: clusters matched to classes by {len(labelled.label)} labels, {naming.agreement:.0%} of them agree; "
        f"probability of this mapping {naming.probability:.0%}"
    )
    for cluster in np.flatnonzero(naming.cluster_probability < 0.95):
        probability = naming.cluster_probability[cluster]
        info(f"  cluster {cluster} is {names[naming.classes[cluster]]!r}: probability {probability:.0%}")
    network.train().cpu()
    return head.ordered(np.argsort(naming.classes).tolist())
