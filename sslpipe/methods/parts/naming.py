"""Clusters get the names of classes, by a few labels; and how sure that is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.labelled import LabelledImages
from sslpipe.io.console import say
from sslpipe.io.errors import UserError
from sslpipe.metrics.mappings import k_best_mappings
from sslpipe.nets.heads import LinearHead, outputs
from sslpipe.nets.inference import infer
from sslpipe.nets.merged import MergedHead
from sslpipe.nets.network import Network

LEAST_PROBABILITY = 0.01
"""No answer for an image counts as surer than this of being wrong: clusters are too sure of themselves (own choice)."""
EXACT = 16
"""Up to so many clusters, the mapping taken is weighed against all others; with more, against the best MAPPINGS."""
MAPPINGS = 100
"""As many as the alternation paper's figure 6 shows."""


@dataclass(frozen=True)
class Naming:
    """Which class each cluster is, and how sure that is."""

    classes: NDArray[np.int64]
    """[K] the class of each cluster."""
    agreeing: float
    """Share of the labelled images whose most probable cluster has their class."""
    sureness: float
    """Share of this mapping in the likelihood of all one-to-one mappings, equally likely beforehand."""
    cluster_sureness: NDArray[np.float64]
    """[K] likewise, of those that give each cluster this class."""


def name_clusters(probability: NDArray[np.float32], label: NDArray[np.int64], classes: int) -> Naming:
    """The one-to-one mapping of clusters to classes under which the labels are likeliest (Hungarian matching).

    probability: [L, K] of each labelled image's clusters, K = classes. label: [L].
    The score of cluster k as class c is Σ log p(k | x) over the labelled images x of class c.
    """
    score = np.zeros((classes, classes))
    np.add.at(score.T, label, np.log(np.maximum(probability, LEAST_PROBABILITY)))
    total, best = k_best_mappings(score, 1)[0]
    agreeing = float((best[probability.argmax(axis=1)] == label).mean())
    if classes > EXACT:
        ranked = k_best_mappings(score, MAPPINGS)
        weight = np.exp(np.array([other for other, _ in ranked]) - total)
        same = np.stack([mapping == best for _, mapping in ranked])
        return Naming(best, agreeing, float(weight[0] / weight.sum()), weight @ same / weight.sum())
    evidence, share = permanent_shares(score - score[np.arange(classes), best][:, None])
    return Naming(best, agreeing, 1 / evidence, share[np.arange(classes), best])


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


def named_head(network: Network, labelled: LabelledImages, folder: Path) -> LinearHead | MergedHead:
    """The cluster head with its outputs in the order of classes; says which and how sure that is."""
    head = network.head
    if not isinstance(head, LinearHead | MergedHead) or outputs(head) != labelled.classes:
        found = outputs(head) or "no"
        raise UserError(
            f"{folder}: {found} clusters found, expected {labelled.classes}, one a class; "
            "set cluster.clusters, or start from pretrain"
        )
    network.eval()
    device = labelled.images.device
    logits = infer(network.to(device), labelled.images.subset(labelled.index)).cpu()
    naming = name_clusters(logits.softmax(dim=1).numpy(), labelled.label.cpu().numpy(), labelled.classes)
    names = labelled.names
    say(
        f"{folder}: clusters named by {len(labelled.label)} labels, {naming.agreeing:.0%} of them agree; "
        f"this mapping {naming.sureness:.0%} sure"
    )
    for cluster in np.flatnonzero(naming.cluster_sureness < 0.95):
        say(f"  cluster {cluster} is {names[naming.classes[cluster]]!r}: {naming.cluster_sureness[cluster]:.0%} sure")
    network.train().cpu()
    return head.ordered(np.argsort(naming.classes).tolist())
