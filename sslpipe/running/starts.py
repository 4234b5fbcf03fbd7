"""The network that a method with few labels starts from: new, pretrained, or clusters matched to the classes."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.io.stages import CLUSTER_STAGES
from sslpipe.nets.heads import Classifier
from sslpipe.nets.model_card import ModelCard, read_card
from sslpipe.nets.model_file import check_data, load_model, load_with_monitors
from sslpipe.nets.model_paths import CARD
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.nets.network import BackboneSettings, Network, build_network

SCRATCH = "prepare"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method that runs: an entry of semisup.methods or finetune.methods."""

    start: str = "pretrain"
    """Run to start from, a folder under runs/: pretrain, cluster, self-label, semisup/<method>; `prepare` trains from
    scratch."""

    def folder(self, runs: Path) -> Path | None:
        """The folder of the model to start from; None: from scratch."""
        return None if self.start == SCRATCH else runs / self.start


def open_start(folder: Path | None, backbone: BackboneSettings, info: StoreInfo) -> tuple[Network, ModelCard | None]:
    """Return the network to train, as it was saved, on the CPU, and its card; a new network has none.

    folder: the model to start from; None: a new network.
    Raises UserError for another data set's model, and for another backbone than `backbone`.
    """
    if folder is None:
        return build_network(backbone, info), None
    network, card = load_model(folder)
    check_data(card, info, folder)
    expected, of_models = asdict(backbone), {field.name for field in fields(backbone) if field.compare}
    for key, value in asdict(network.settings).items():
        if key in of_models and value != expected[key]:
            found, wanted = ("null" if each is None else each for each in (value, expected[key]))
            raise UserError(
                f"{folder / CARD}: network.{key}: {found} found, expected {wanted} as in params.yaml; "
                f"run the stage '{card.stage}' again"
            )
    return network, card


def start_network(
    folder: Path | None, backbone: BackboneSettings, info: StoreInfo, labelled: LabelledImages
) -> Network:
    """The network to train, on the CPU; its head is a classifier of the classes, or must be replaced.

    folder: as for `open_start`, whose errors it raises, and UserError for clusters other in number than classes.
    """
    network, card = open_start(folder, backbone, info)
    if folder is None or card is None or not card.predicts_clusters:
        return network
    # Methods with few labels replace each other's heads, but for these.
    if card.stage in CLUSTER_STAGES or isinstance(network.head, Classifier):
        from sslpipe.running.naming import named_head  # scipy takes a second to load; other starts need none

        network.head = named_head(network, labelled, folder)
    return network


def start_monitors(folder: Path | None, labelled: LabelledImages) -> LinearMonitors | None:
    """The classifiers on the layers of the model to start from; None if there are none for the classes of these labels.

    folder: as for `start_network`.
    """
    if folder is None:
        return None
    architecture, card = read_card(folder / CARD)
    if not architecture.monitors or card.classes != labelled.names:
        return None  # the network, which is loaded already, is not built again
    return load_with_monitors(folder)[1]
