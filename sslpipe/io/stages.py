"""Names of the stages, which are the names of their commands, of their folders in runs/ and of their blocks."""

from collections.abc import Mapping
from typing import Any

STAGES = (
    *("prepare", "pretrain", "features", "mine-neighbors", "cluster", "self-label", "semisup", "finetune", "evaluate"),
    "report",
)
"""All stages, in the order of the pipeline."""
CLUSTER_STAGES = ("cluster", "self-label")
"""Stages with a model that predicts clusters."""
LABELLED_STAGES = ("semisup", "finetune")
"""Stages that train with labels, by one or several methods: each method has a folder runs/<stage>/<method>, a block
<stage>.<method> and an entry in <stage>.methods."""
RELIABLE = "reliable_labels"
"""Entry of a model's settings that tells that a stage of LABELLED_STAGES has learned groups instead of classes."""
MERGED_FROM = "merged_from"
"""Entry of a row of metrics that tells how many clusters were merged to those that are scored."""
TRAINING_STAGES = ("pretrain", *CLUSTER_STAGES, *LABELLED_STAGES)
SHARED_KEYS = {"cluster": ("clusters", "compare", "levels")}
"""Block of a stage → its keys that are fields of every method's settings: `cluster.clusters`, not
`cluster.<method>.clusters`."""


def predicts_clusters(stage: str, settings: Mapping[str, Any]) -> bool:
    """Return whether the outputs of a stage's model are clusters, which have no names; settings: those in its card."""
    return stage in CLUSTER_STAGES or RELIABLE in settings


def key_of(stage: str) -> str:
    """Return the name of a stage in Python and in params.yaml, such as mine_neighbors for mine-neighbors."""
    return stage.replace("-", "_")
