"""The problem of self-label: the clusters to refine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sslpipe.io.errors import UserError
from sslpipe.methods.self_label._problem import Problem
from sslpipe.nets.model_file import load_network
from sslpipe.running.features import STAGE_CARD, find_features
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.stored_inputs import open_stored_inputs


def self_label_problem(inputs: Inputs, *, clustered: Path, featured: Path, mined: Path) -> OpenedProblem:
    """The network of the cluster stage and the training images.

    featured, mined: folders of the stages features and mine-neighbors, which are opened for a method whose Settings say
    `reads_features`. Raises UserError if the features are those of another backbone.
    """
    problem = Problem(load_network(clustered, inputs.store.info), inputs.images)
    files: Sequence[Path] = ()
    if getattr(inputs.settings, "reads_features", False):
        if (featured / STAGE_CARD).exists() and find_features(featured, inputs.store, clustered) is None:
            raise UserError(
                f"{inputs.where}: the features in {featured} are not those of the backbone in {clustered}, which the "
                "stage cluster has trained or replaced; set self_label.method: confident, or a cluster.method that "
                "leaves the backbone as it is, or run the stages again if the images have changed"
            )
        stored = open_stored_inputs(featured, mined, inputs.store, clustered)
        problem = replace(problem, features=stored.features, neighbors=stored.neighbors)
        files = stored.files
    return OpenedProblem(
        problem=problem,
        started_from=clustered,
        cache_key=[inputs.method],
        files_read=files,
        metadata={"method": inputs.method},
    )
