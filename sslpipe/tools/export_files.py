"""Names of the files of exports, for whoever looks for exports without loading one: this module loads no torch."""

FILES = {"onnx": "model.onnx", "torch": "model.pt2", "timm": "model.safetensors"}
"""Name of each format, as --format has it → the name of its file."""


def card_of(file: str) -> str:
    """Return the name of the card of an export's file."""
    return f"{file}.json"
