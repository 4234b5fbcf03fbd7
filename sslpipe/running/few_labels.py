"""The problem of semisup and finetune: few labels and a network to start from."""

from dataclasses import replace
from pathlib import Path

from sslpipe.data.held_out import read_held_out
from sslpipe.data.images import Images
from sslpipe.data.labelled import read_labelled
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.stages import key_of
from sslpipe.methods.semisup._base import Problem
from sslpipe.nets.network import BackboneSettings
from sslpipe.running.features import find_features
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.starts import Entry, start_monitors, start_network
from sslpipe.running.stored_inputs import open_stored_inputs

COSTLY_PIXELS = 20_000_000
"""Pixels of the images, all together, from which a line says that they pass a network on a CPU (own choice: some 15
seconds of ResNet-18 at 96 px, 45 of ResNet-50 at 224 px, by the figures of nets/inference.py)."""
GPU_FACTOR = 100
"""A GPU passes as many times the pixels in that time (own choice)."""


def labelled_problem(
    inputs: Inputs, *, runs: Path, featured: Path | None = None, mined: Path | None = None
) -> OpenedProblem:
    """The network that the method starts from, the labelled images, and the held-out ones for its monitors.

    runs: the folder of all stages' outputs, in which <stage>.methods.<method>.start names one. featured, mined: folders
    of the stages features and mine-neighbors, which are opened for a method whose Settings say `reads_features`, and
    the first for one whose Settings say `prefers_features`, if it has the features of the start's backbone.
    """
    project, store, images = inputs.project, inputs.store, inputs.images
    entry = project.parse(Entry, f"{key_of(inputs.stage)}.methods.{inputs.method}")
    backbone = project.parse(BackboneSettings, "network")
    backbone.check_side(store.info.size)
    labelled, folder = read_labelled(store, images), entry.folder(runs)
    network = start_network(folder, backbone, store.info, labelled).to(images.device)
    problem = Problem(network, labelled, read_held_out(store, images.device), start_monitors(folder, labelled))
    files = list(store.labelled_files())
    if getattr(inputs.settings, "reads_features", False) and featured is not None and mined is not None:
        if folder is None:
            raise UserError(
                f"{key_of(inputs.stage)}.methods.{inputs.method}.start: {entry.start} found, expected pretrain, since "
                "the method reads stored features of a trained network"
            )
        stored = open_stored_inputs(featured, mined, store, folder)
        problem = replace(
            problem,
            features=stored.features,
            held_out_features=stored.held_out_features,
            neighbors=stored.neighbors,
            similarities=stored.similarities,
        )
        files += stored.files
    elif getattr(inputs.settings, "prefers_features", False) and featured is not None:
        found = None if folder is None else find_features(featured, store, folder)
        if found is not None:
            problem = replace(problem, features=found.split("train"))
            files.append(found.card)
        elif costly(images):
            way_out = "; 'sslpipe features' stores them" if entry.start == "pretrain" else ""
            info(
                f"{inputs.where}: no features of {folder or 'a new network'} found in {featured}, so the network "
                f"computes those of {len(images)} training images{way_out}"
            )
    return OpenedProblem(
        problem=problem,
        started_from=folder,
        cache_key=[inputs.method, entry, backbone],
        files_read=files,
        metadata={
            "method": inputs.method,
            "start": entry.start,
            "labels": len(labelled),
            **({"labels_chosen": True} if store.labels_chosen else {}),
        },
        labelled=labelled,
    )


def costly(images: Images) -> bool:
    """Return whether a pass of all images through a network may take some ten seconds and more."""
    height, width = images.array.shape[-2:]
    most = COSTLY_PIXELS * (1 if images.device.type == "cpu" else GPU_FACTOR)
    return len(images) * height * width >= most
