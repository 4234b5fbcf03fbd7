"""The problem of semisup and finetune: few labels and a network to start from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sslpipe.data.held_out import read_held_out
from sslpipe.data.images import Images
from sslpipe.data.labelled import read_labelled
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.stages import RELIABLE, key_of
from sslpipe.methods.semisup._base import Problem
from sslpipe.nets.network import BackboneSettings
from sslpipe.running.features import find_features
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.levels import Levels
from sslpipe.running.reliable import SemisupEntry, reliable_labels
from sslpipe.running.starts import Entry, open_start, start_monitors, start_network
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
    of the stages features and mine-neighbors, given for semisup, which are opened for a method whose Settings say
    `reads_features` and for reliable labels, and the first for a method whose Settings say `prefers_features`, if it
    has the features of the start's backbone.
    """
    project, store, images = inputs.project, inputs.store, inputs.images
    where = f"{key_of(inputs.stage)}.methods.{inputs.method}"
    entry = project.parse(SemisupEntry if inputs.stage == "semisup" else Entry, where)
    backbone = project.parse(BackboneSettings, "network")
    backbone.check_side(store.info.size)
    folder = entry.folder(runs)
    if isinstance(entry, SemisupEntry) and entry.labels == "reliable":
        assert featured is not None
        assert mined is not None
        started = _without_labels(inputs, entry, folder, backbone, where, featured, mined)
    else:
        started = _with_labels(inputs, folder, backbone)
    problem, labelled = started.problem, started.problem.labelled
    files = list(started.files)
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
            **started.metadata,
        },
        labelled=labelled,
        levels=started.levels,
        classes=() if RELIABLE in started.metadata else labelled.names,
    )


@dataclass(frozen=True)
class _Started:
    """A problem, and what identifies its labels."""

    problem: Problem
    files: Sequence[Path]
    """Files with the labels."""
    metadata: Mapping[str, Any]
    """Entries of model.json on the labels."""
    levels: Levels | None = None
    """Given if the labels are groups."""


def _with_labels(inputs: Inputs, folder: Path | None, backbone: BackboneSettings) -> _Started:
    """Return the problem with the labelled images of the store; folder: of the model to start from."""
    store, images = inputs.store, inputs.images
    labelled = read_labelled(store, images)
    network = start_network(folder, backbone, store.info, labelled).to(images.device)
    problem = Problem(network, labelled, read_held_out(store, images.device), start_monitors(folder, labelled))
    chosen = {"labels_chosen": True} if store.labels_chosen else {}
    return _Started(problem, store.labelled_files(), {"labels": len(labelled), **chosen})


def _without_labels(
    inputs: Inputs,
    entry: SemisupEntry,
    folder: Path | None,
    backbone: BackboneSettings,
    where: str,
    featured: Path,
    mined: Path,
) -> _Started:
    """Return the problem with groups of the model to start from as labels, without monitors of accuracy.

    where: the params key of the entry. Raises UserError if that model predicts no clusters.
    """
    store, images = inputs.store, inputs.images
    network, card = open_start(folder, backbone, store.info)
    if folder is None or card is None or not card.predicts_clusters:
        raise UserError(
            f"{where}.start: {entry.start} found, expected cluster or self-label, whose groups are the labels with "
            "labels: reliable"
        )
    found = reliable_labels(
        where, entry.reliable, network.to(images.device), folder, images, store, featured=featured, mined=mined
    )
    return _Started(Problem(network, found.labelled), found.files, {RELIABLE: found.metadata}, Levels(found.neighbors))


def costly(images: Images) -> bool:
    """Return whether a pass of all images through a network may take some ten seconds and more."""
    height, width = images.array.shape[-2:]
    most = COSTLY_PIXELS * (1 if images.device.type == "cpu" else GPU_FACTOR)
    return len(images) * height * width >= most
