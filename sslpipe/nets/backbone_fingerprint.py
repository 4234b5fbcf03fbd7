"""The fingerprint of a model's backbone, by which stored features are known to be those of a model."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sslpipe.io.errors import UserError, one_line
from sslpipe.nets.model_card import read_card
from sslpipe.nets.model_paths import CARD, weights_path

BACKBONE = "backbone."
"""Prefix of the backbone's weights in the file of a model."""


def backbone_fingerprint(folder: Path) -> str:
    """Return a SHA-256 of all that the features of a model's backbone depend on, apart from the image.

    That is the architecture, the preprocessing, and the weights and statistics of the backbone. Two models with the
    same fingerprint, such as a pretrained network and one with a head on its frozen backbone, have the same features.
    folder: of a model. Raises UserError for a card or weights that cannot be read.
    """
    architecture, card = read_card(folder / CARD)
    seen = (architecture.backbone, architecture.mean, architecture.std, architecture.input, card.size, card.channels)
    digest = hashlib.sha256(repr(seen).encode())
    path = weights_path(folder)
    try:
        with safe_open(path, framework="numpy") as file:
            for name in sorted(file.keys()):
                if name.startswith(BACKBONE):
                    value = file.get_tensor(name)
                    digest.update(f"{name} {value.dtype} {value.shape}".encode())
                    digest.update(value.tobytes())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable as weights ({one_line(error)}); run '{card.stage}' again") from None
    return digest.hexdigest()
