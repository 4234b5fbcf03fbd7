"""The problem of self-label: the clusters to refine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sslpipe.data.samples import sampled
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.methods.self_label._problem import Problem
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.inference import infer
from sslpipe.nets.model_file import load_network
from sslpipe.running.features import STAGE_CARD, find_features
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.levels import Levels
from sslpipe.running.stored_inputs import mined_files, open_stored_inputs, read_mined

SAMPLE = 10_000
"""Images whose pixels are compared (own choice, as in `cluster.compare`)."""


def self_label_problem(inputs: Inputs, *, clustered: Path, featured: Path, mined: Path) -> OpenedProblem:
    """The network of the cluster stage and the training images.

    featured, mined: folders of the stages features and mine-neighbors, which are opened for a method whose Settings say
    `reads_features`. Raises UserError if the features are those of another backbone.
    """
    problem = Problem(load_network(clustered, inputs.store.info), inputs.images)
    files: Sequence[Path] = ()
    reads_features = getattr(inputs.settings, "reads_features", False)
    if reads_features and problem.network.settings.name == "pixels":
        problem = with_pixels(problem, inputs)
    elif reads_features:
        if (featured / STAGE_CARD).exists() and find_features(featured, inputs.store, clustered) is None:
            raise UserError(
                f"{inputs.where}: the features in {featured} are not those of the backbone in {clustered}, which the "
                "stage cluster has trained or replaced; set self_label.method: confident, or a cluster.method that "
                "leaves the backbone as it is, or run the stages again if the images have changed"
            )
        stored = open_stored_inputs(featured, mined, inputs.store, clustered)
        problem = replace(problem, features=stored.features, neighbors=stored.neighbors)
        files = stored.files
    mined_neighbors, _ = read_mined(mined, inputs.store)
    return OpenedProblem(
        problem=problem,
        started_from=clustered,
        cache_key=[inputs.method],
        files_read=[*files, *(each for each in mined_files(mined)[:1] if each not in files)],
        metadata={"method": inputs.method},
        levels=Levels(mined_neighbors),
    )


def with_pixels(problem: Problem, inputs: Inputs) -> Problem:
    """Return the problem of a model of raw pixels with the pixels of at most SAMPLE images, and their neighbours.

    The stage cluster writes such a model where a plain baseline is better than its method (`cluster.compare`).
    """
    index = sampled(len(problem.images), SAMPLE, inputs.project.seed)
    few = problem.images.subset(torch.from_numpy(index))
    info(
        f"{inputs.where}: the clusters are found on raw pixels, so the neighbours are those of {len(few)} images there"
    )
    network = problem.network.to(few.device).eval()
    pixels = infer(network.features, few)
    neighbors, _ = nearest_neighbors(pixels, k=min(inputs.settings.neighbors, len(few) - 1), device=few.device)
    return replace(problem, features=pixels.half().cpu().numpy(), neighbors=neighbors)
