"""What a learner with few labels starts from: nothing, a pretext task, clusters that get the classes' names."""

from dataclasses import asdict
from pathlib import Path

from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.model_file import CARD, check_data, load_model
from sslpipe.nets.network import BackboneSettings, Network, build_network

CLUSTER_STAGES = ("cluster", "self-label")


def start_network(
    folder: Path | None, backbone: BackboneSettings, info: StoreInfo, labelled: LabelledImages
) -> Network:
    """The network to go on with, on the CPU; its head's outputs are the classes, or it has to be replaced.

    folder: of the model to start from; None: a new one.
    Raises UserError for another data set's model, another backbone than `backbone`, clusters other in number than
    classes.
    """
    if folder is None:
        return build_network(backbone, info)
    network, card = load_model(folder)
    check_data(card, info, folder)
    expected = asdict(backbone)
    for key, found in asdict(network.settings).items():
        if found != expected[key]:
            raise UserError(
                f"{folder / CARD}: network.{key}: {found} found, expected {expected[key]} as in params.yaml; "
                f"run the stage '{card.stage}' again"
            )
    if card.stage in CLUSTER_STAGES:
        from sslpipe.methods.parts.naming import named_head  # scipy takes a second to load; other starts need none

        network.head = named_head(network, labelled, folder)
    return network
