"""The problem of semisup and finetune: few labels and a network to start from."""

from pathlib import Path

from sslpipe.data.held_out import read_held_out
from sslpipe.data.labelled import read_labelled
from sslpipe.io.stages import key_of
from sslpipe.methods.semisup._base import Problem
from sslpipe.nets.network import BackboneSettings
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.starts import Entry, start_monitors, start_network


def labelled_problem(inputs: Inputs, *, runs: Path) -> OpenedProblem:
    """The network that the method starts from, the labelled images, and the held-out ones for its monitors.

    runs: the folder of all stages' outputs, in which <stage>.methods.<method>.start names one.
    """
    project, store, images = inputs.project, inputs.store, inputs.images
    entry = project.parse(Entry, f"{key_of(inputs.stage)}.methods.{inputs.method}")
    backbone = project.parse(BackboneSettings, "network")
    backbone.check_side(store.info.size)
    labelled, folder = read_labelled(store, images), entry.folder(runs)
    network = start_network(folder, backbone, store.info, labelled).to(images.device)
    return OpenedProblem(
        problem=Problem(network, labelled, read_held_out(store, images.device), start_monitors(folder, labelled)),
        started_from=folder,
        cache_key=[inputs.method, entry, backbone],
        files_read=store.labelled_files(),
        metadata={"method": inputs.method, "start": entry.start, "labels": len(labelled)},
        labelled=labelled,
    )
