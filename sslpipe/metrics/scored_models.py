"""Whether the models that evaluate scored are those that are there now."""

from pathlib import Path

from sslpipe.io.files import read_json, sha256

MODEL_DIGEST = "model_sha256"
"""Column of a table of clusters with the beginning of the SHA-256 hash of their model's weights."""
DIGITS = 12
"""Digits of that hash in the table."""


def changed_models(evaluated: Path) -> list[str]:
    """Return the folders whose models are others now than those that evaluate scored; a missing one is not compared.

    evaluated: output folder of evaluate, whose card.json has the digests of their files.
    """
    path = evaluated / "card.json"
    card = read_json(path) if path.exists() else {}
    inputs = card.get("inputs", {}) if isinstance(card, dict) else {}
    changed = [
        str(Path(file).parent)
        for file, digest in inputs.items()
        if Path(file).is_file() and sha256(Path(file)) != digest
    ]
    return list(dict.fromkeys(changed))
