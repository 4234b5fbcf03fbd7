"""The stages of the pipeline by name: their commands, their folders under runs/ and their blocks in params.yaml."""

STAGES = ("prepare", "pretrain", "mine-neighbors", "cluster", "self-label", "semisup", "finetune", "evaluate")
"""In the order of the pipeline."""
CLUSTER_STAGES = ("cluster", "self-label")
"""Stages whose model predicts clusters."""
LABELLED_STAGES = ("semisup", "finetune")
"""Stages that learn from labels, by one or several methods: each method has a folder runs/<stage>/<method>, a block
<stage>.<method>, and an entry in <stage>.methods."""
TRAINING_STAGES = ("pretrain", *CLUSTER_STAGES, *LABELLED_STAGES)


def key_of(stage: str) -> str:
    """The stage's name in Python and in params.yaml: mine_neighbors for mine-neighbors."""
    return stage.replace("-", "_")
