"""A model as a folder: model.safetensors contains the weights, model.json the architecture and the model's provenance.

The weights of linear classifiers on the network's layers, if it was trained with any, are in the same file.
Loading is strict: a weight that is missing, unexpected or of another shape is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.io.files import write_bytes, write_json
from sslpipe.io.stages import LABELLED_STAGES
from sslpipe.nets.cosine_heads import CosineSettings
from sslpipe.nets.heads import HeadSettings, InstanceSettings, LinearSettings, PrototypeHead, PrototypeSettings
from sslpipe.nets.merged import MergedSettings
from sslpipe.nets.model_card import Architecture, ModelCard, expect, read_card
from sslpipe.nets.model_paths import CARD, WEIGHTS
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.nets.network import Network
from sslpipe.nets.propagation_head import PropagationSettings
from sslpipe.nets.unit_heads import CentroidSettings, ConsensusSettings

MONITORS = "monitors."
"""Prefix of the monitors' weights."""


def save_model(folder: Path, network: Network, card: ModelCard, monitors: LinearMonitors | None = None) -> None:
    """Write a network and its card to a folder; equal weights and cards give identical files.

    monitors: linear classifiers on the network's layers, saved with it. Raises UserError if a file cannot be written.
    """
    head = None if isinstance(network.head, nn.Identity) else network.head.settings
    architecture = Architecture(
        backbone=network.settings,
        head=head,
        mean=_decimals(network.mean),
        std=_decimals(network.std),
        input=network.input,
        monitors=() if monitors is None else monitors.names,
    )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _state(network, monitors).items()}
    # Not safetensors' save_file, whose errors, such as for a full disk, are of its own kind.
    write_bytes(folder / WEIGHTS, safetensors.torch.save(weights))
    content = {key: value for key, value in asdict(card).items() if key != "value_range" or value}
    described = asdict(architecture)
    del described["backbone"]["recompute"]  # of a run, not of a model
    write_json(folder / CARD, {"network": described, **content})


def _decimals(values: Tensor) -> tuple[float, ...]:
    """Return the shortest decimals that are read as the same float32 values: 0.3, not 0.30000001192092896."""
    return tuple(float(str(value)) for value in values.flatten().cpu().numpy())


def load_model(folder: Path) -> tuple[Network, ModelCard]:
    """Return the network of a folder and its card; see `load_with_monitors`."""
    network, _, card = load_with_monitors(folder)
    return network, card


def load_with_monitors(folder: Path) -> tuple[Network, LinearMonitors | None, ModelCard]:
    """Return the network of a folder, on the CPU in train mode, the classifiers on its layers, if any, and its card.

    The state of torch's generator does not change. Raises UserError, naming the file, for a file that is missing or
    truncated, for a card of another form, for weights that are not exactly those of the card's architecture, and for a
    classifier with another number of classes than outputs.
    """
    architecture, card = read_card(folder / CARD)
    found, count = len(card.classes), outputs_of(architecture.head)
    if card.stage in LABELLED_STAGES and card.predicts_clusters:
        expect(not found, folder / CARD, "classes", str(found), "none, since its outputs are clusters")
    elif card.stage in LABELLED_STAGES and count is not None:
        expect(found == count, folder / CARD, "classes", str(found), f"{count}, one per output of the network")
    side = architecture.backbone.side
    if side is not None:
        expect(side <= card.size, folder / CARD, "network.side", f"{side} px", f"at most {card.size}, the images' size")
    weights = _read_weights(folder / WEIGHTS, card)
    try:
        with torch.random.fork_rng(devices=[]):
            network = Network(
                architecture.backbone,
                architecture.head,
                mean=architecture.mean,
                std=architecture.std,
                input=architecture.input,
                channels=card.channels,
                size=card.size,
            )
            monitors = _build_monitors(network, architecture.monitors)
    except UserError as error:
        raise UserError(f"{folder / CARD}: {error}") from None
    expected = _state(network, monitors)
    check_weights(weights, expected, str(folder / WEIGHTS), of=CARD, advice="train the model again")
    for name, tensor in expected.items():
        tensor.copy_(weights[name])
    return network, monitors, card


def _build_monitors(network: Network, layers: tuple[str, ...]) -> LinearMonitors | None:
    """Return new classifiers on these layers; raises UserError if the network has others."""
    if not layers:
        return None
    monitors = LinearMonitors(network) if isinstance(network.head, PrototypeHead) else None
    expected = [] if monitors is None else list(monitors.names)
    if list(layers) != expected:
        raise UserError(f"network.monitors: {list(layers)} found, expected {expected}, the network's layers")
    return monitors


def _state(network: Network, monitors: LinearMonitors | None) -> dict[str, Tensor]:
    """Return the weights of a network and of the classifiers on its layers, by their names in the file."""
    own: dict[str, Tensor] = {} if monitors is None else monitors.state_dict(prefix=MONITORS)
    return {**network.state_dict(), **own}


def load_network(folder: Path, info: StoreInfo) -> Network:
    """Return the network of a folder; raises UserError as `load_model` does, and for a model of another store."""
    network, card = load_model(folder)
    check_data(card, info, folder)
    return network


def check_data(card: ModelCard, info: StoreInfo, path: Path) -> None:
    """Raise UserError unless the model at `path` (its folder or card) was trained on the images of this store."""
    _check_images(card, info.channels, info.size, path)
    expect(card.data == info.fingerprint, path, "data", _short(card.data), f"{_short(info.fingerprint)}, the store's")


def check_side(network: Network, side: int | None, folder: Path) -> None:
    """Raise UserError unless the network of a folder sees squares of `side`, which is network.side in params.yaml."""
    found, expected = ("null" if each is None else str(each) for each in (network.side, side))
    expect(found == expected, folder / CARD, "network.side", found, f"{expected} as in params.yaml")


def check_classes(card: ModelCard, network: Network, info: StoreInfo, classes: Sequence[str], folder: Path) -> None:
    """Raise UserError unless the model of a folder was trained on this store and predicts these classes."""
    check_data(card, info, folder)
    with torch.no_grad():
        outputs = network.eval()(torch.zeros(1, info.channels, info.size, info.size)).shape[-1]
    expect(outputs == len(classes), folder / CARD, "outputs", str(outputs), f"{len(classes)}, one per class")
    expect(len(card.classes) == len(classes), folder / CARD, "classes", str(len(card.classes)), str(len(classes)))
    for found, expected in zip(card.classes, classes, strict=True):
        expect(found == expected, folder / CARD, "classes", repr(found), f"{expected!r} at its place")


def outputs_of(head: HeadSettings | None) -> int | None:
    """Return the number of outputs of a head that predicts clusters or classes; None for another head."""
    if isinstance(head, LinearSettings | ConsensusSettings | CentroidSettings | CosineSettings):
        return head.outputs
    if isinstance(head, MergedSettings):
        return len(set(head.groups))
    if isinstance(head, PrototypeSettings):
        return head.prototypes
    return head.classes if isinstance(head, InstanceSettings | PropagationSettings) else None


def _check_images(card: ModelCard, channels: int, size: int, path: Path) -> None:
    expect(card.channels == channels, path, "channels", str(card.channels), str(channels))
    expect(card.size == size, path, "size", f"{card.size} px", f"{size} px")


def _short(fingerprint: str) -> str:
    """Return the first 12 characters of a fingerprint, for messages."""
    return fingerprint[:12]


def _read_weights(path: Path, card: ModelCard) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, though {CARD} is there; run the stage '{card.stage}' again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not readable as weights ({error}); run the stage '{card.stage}' again") from None


def check_weights(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str, *, of: str, advice: str
) -> None:
    """Raise UserError unless the weights found have the expected names, shapes and types, and finite values.

    source: the file of the weights, for messages. of: what the expected weights belong to. advice: what to do about
    values that are not finite.
    """
    missing = [name for name in expected if name not in found]
    unexpected = sorted(name for name in found if name not in expected)
    for names, what in ((missing, "missing"), (unexpected, "unexpected")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(
                f"{source}: {len(found)} weights found, expected the {len(expected)} of {of}; {what}: {names[0]}{more}"
            )
    for name, tensor in expected.items():
        form, wanted = (f"{t.dtype} {list(t.shape)}".removeprefix("torch.") for t in (found[name], tensor))
        if form != wanted:
            raise UserError(f"{source}: {name}: {form} found, expected {wanted}, as in {of}")
        if not found[name].isfinite().all():
            raise UserError(f"{source}: {name}: values that are not finite found; {advice}")
