"""Published networks that have no part in a project and judge its groups: the setting `cluster.compare.judges`."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.console import info, progress
from sslpipe.io.errors import UserError
from sslpipe.io.text import counted, listed
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.nets.architecture_names import names_of
from sslpipe.nets.known_features import CPU_SIDE
from sslpipe.nets.model_card import read_card
from sslpipe.nets.model_paths import CARD
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.published import published_network
from sslpipe.nets.weights_packages import EXTRA, PACKAGES
from sslpipe.running.feature_runtime import MANY, FeatureSettings, choose_forward

JUDGE_SIDE = CPU_SIDE
"""Side of the squares that judges see, pixels, as `init` has it for published features on a CPU."""
WHERE = "cluster.compare.judges"


def published_without_training(pretrained: Path) -> tuple[str, ...]:
    """Return the architectures of the networks in an output folder of pretrain if they are published and not trained.

    () for a network that was trained. Raises UserError for a card of another form.
    """
    architecture, card = read_card(pretrained / CARD)
    if card.stage != "pretrain" or card.settings.get("method") != "frozen":
        return ()
    return names_of(architecture.backbone.architecture or "")


def judge_network(settings: CompareSettings, own: Sequence[str], *, channels: int) -> Network | None:
    """Return the judges as one network with joined features; None without judges.

    own: the project's own published architectures. They judge already, and are left out, which a line says. channels:
    number of image channels. Raises UserError for a judge whose package is not installed, or is another version.
    """
    missing = [PACKAGES[name].distribution for name in settings.judges if PACKAGES[name].path() is None]
    if missing:
        raise UserError(
            f"{WHERE}: {listed(settings.judges)} found, but {listed(missing)} not installed; {EXTRA}, or set {WHERE}: "
            "[] to do without"
        )
    bases = [name.partition(".")[0] for name in own]
    if twice := [name for name in settings.judges if name in bases]:
        info(f"{WHERE}: {listed(twice)} found, among the project's own networks, which judge already and count once")
    names = [name for name in settings.judges if name not in bases]
    if not names:
        return None
    backbone = BackboneSettings(name="timm", architecture="+".join(names), unit_features=True)
    return published_network(backbone, ["package"] * len(names), channels=channels, download=False, side=JUDGE_SIDE)


def judge_features(network: Network, images: Images, store: Store) -> Tensor:
    """Return the features of images of a store, float32 [n, D] on the CPU, computed as the stage features does.

    network: of `judge_network`; it is moved to the images' device.
    """
    settings = FeatureSettings(runtime="auto" if len(images) >= MANY else "torch")
    _, forward = choose_forward(settings, network, store, images.device)
    parts, names = [], names_of(network.settings.architecture or "")
    with progress(f"cluster: features of {counted(len(names), 'judge')}", len(images), "images") as bar:
        for start in range(0, len(images), settings.batch):
            parts.append(forward(images.part(start, start + settings.batch)))
            bar.advance(len(parts[-1]))
    return torch.cat(parts)
