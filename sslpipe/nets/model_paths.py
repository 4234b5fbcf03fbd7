"""Names of a model's files, for whoever looks for models without loading one: this module loads no torch."""

from pathlib import Path

CARD = "model.json"
WEIGHTS = "model.safetensors"


def weights_path(folder: Path) -> Path:
    """Return the path of the weights file in a model's folder."""
    return folder / WEIGHTS
