"""Write tensors to a safetensors file piece by piece, without a second copy of them in memory."""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

PIECE = 1 << 24
"""Bytes that are copied from the device at a time (own choice)."""
NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Type of a tensor → its name in the file."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts to a new file in the safetensors format, which safetensors reads.

    tensors: on any device, of the types in NAMES. Only the bytes of one piece, or of a tensor that is not contiguous,
    are in memory beside the tensors: safetensors' own functions take contiguous tensors on the CPU, all at once.
    Raises OSError if the file cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    # Wide types first, so that every tensor begins at a multiple of its width.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    end = 0
    for name in order:
        value = tensors[name]
        begin, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            for piece in _pieces(tensors[name]):
                file.write(piece.numpy().data)


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the bytes of a tensor in order, as uint8 tensors on the CPU, of at most PIECE bytes."""
    if tensor.numel():
        data = tensor.detach().contiguous().flatten().view(torch.uint8)
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE].cpu()
