"""The problem of self-label: the clusters to refine."""

from pathlib import Path

from sslpipe.methods.self_label.confident import Problem
from sslpipe.nets.model_file import load_network
from sslpipe.running.inputs import Inputs, OpenedProblem


def self_label_problem(inputs: Inputs, *, clustered: Path) -> OpenedProblem:
    """The network of the cluster stage and the training images."""
    return OpenedProblem(
        problem=Problem(load_network(clustered, inputs.store.info), inputs.images),
        started_from=clustered,
        cache_key=[inputs.method],
        metadata={"method": inputs.method},
    )
