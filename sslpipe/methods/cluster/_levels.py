"""Settings of the merge tree of a cluster model's groups, which all cluster methods share."""

from dataclasses import dataclass

from sslpipe.metrics.merge_tree import By


@dataclass(frozen=True, kw_only=True)
class LevelsSettings:
    """The block `cluster.levels`: how the groups merge into fewer (`evaluate.groups`, `sslpipe predict --groups`).

    The merges are stored with the model; a level of fewer groups needs no training.
    """

    by: By = "neighbors"
    """What the next two groups to merge have in common. neighbors: the neighbour modularity is as high as possible
    after each merge, on the mined neighbours. means: by Ward's criterion (Ward 1963) on the means of the L2-normalised
    stored features, weighted by the groups' sizes. Own choice, by 10 of 20, 40 and 100 groups on digits and CIFAR-10
    (docs/results.md)."""
