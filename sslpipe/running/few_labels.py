"""The problem of semisup and finetune: few labels and a network to start from."""

from dataclasses import replace
from pathlib import Path

from sslpipe.data.held_out import read_held_out
from sslpipe.data.labelled import read_labelled
from sslpipe.io.errors import UserError
from sslpipe.io.stages import key_of
from sslpipe.methods.semisup._base import Problem
from sslpipe.nets.network import BackboneSettings
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.starts import Entry, start_monitors, start_network
from sslpipe.running.stored_inputs import open_stored_inputs


def labelled_problem(
    inputs: Inputs, *, runs: Path, featured: Path | None = None, mined: Path | None = None
) -> OpenedProblem:
    """The network that the method starts from, the labelled images, and the held-out ones for its monitors.

    runs: the folder of all stages' outputs, in which <stage>.methods.<method>.start names one. featured, mined: folders
    of the stages features and mine-neighbors, which are opened for a method whose Settings say `reads_features`.
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
