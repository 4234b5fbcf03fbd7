"""The problem of pretrain: images without labels."""

from sslpipe.data.images import Images
from sslpipe.methods.pretrain._base import Problem
from sslpipe.nets.network import BackboneSettings
from sslpipe.running.inputs import Inputs, OpenedProblem


def pretrain_problem(inputs: Inputs) -> OpenedProblem:
    """Images without labels and the settings of a new network; no label is read."""
    backbone = inputs.project.parse(BackboneSettings, "network")
    backbone.check_side(inputs.store.info.size)
    held_out = Images(inputs.store.images("held_out"), inputs.images.device)
    return OpenedProblem(
        problem=Problem(backbone, inputs.store.info, inputs.images, held_out),
        cache_key=[inputs.method, backbone],
        metadata={"method": inputs.method},
        files_read=getattr(inputs.settings, "files_read", ()),
    )
