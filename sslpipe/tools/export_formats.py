"""The formats of exports: their files, and what writes and reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslpipe.tools.export_files import FILES, card_of
from sslpipe.tools.export_module import INPUT, About, Forward, run_onnx, run_torch, write_onnx, write_torch
from sslpipe.tools.export_timm import CONFIG, run_timm, write_timm

TOLERANCE = 1e-4
"""Largest accepted difference between the outputs of a traced file and of the model, which are in [-1, 1]."""
TIMM_TOLERANCE = 1e-5
"""The same of timm's model: difference of logits or features, divided by the largest of them if that is above 1, since
float32 has 7 digits."""


@dataclass(frozen=True)
class Format:
    """A file format of exports."""

    file: str
    """Name of the file."""
    libraries: tuple[str, ...]
    """Libraries other than torch that are needed to write and to check the file."""
    write: Callable[[Any, Path, About], None]
    """Writes a traced network, or a model of timm, and its card to a file."""
    run: Callable[[Path], Forward]
    """Returns the function in a file."""
    example: tuple[str, str, str]
    """Python code: the import, how to load the file, and the output for BATCH, a NumPy array; of timm for `image`."""
    library: str
    """The hub's name of the library."""
    tolerance: float = TOLERANCE
    """Largest accepted difference from the model's outputs."""
    is_traced: bool = True
    """Whether the file is a graph from uint8 images to probabilities or unit features; else it is a model of timm."""
    others: tuple[str, ...] = ()
    """Names of other files that belong to the file."""

    @property
    def card(self) -> str:
        """Name of the file's card."""
        return card_of(self.file)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the file, of those that belong to it, such as a separate one for large weights, and of the card."""
        return self.file, *self.others, self.card


FORMATS: dict[str, Format] = {
    "onnx": Format(
        file=FILES["onnx"],
        libraries=("onnx", "onnxscript", "onnxruntime"),
        write=write_onnx,
        run=run_onnx,
        library="onnx",
        others=("model.onnx.data",),
        example=(
            "onnxruntime",
            'onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])',
            f'model.run(None, {{"{INPUT}": BATCH}})[0]',
        ),
    ),
    "torch": Format(
        file=FILES["torch"],
        libraries=(),
        write=write_torch,
        run=run_torch,
        library="pytorch",
        others=("model.pt2.data",),
        example=("torch", 'torch.export.load("model.pt2").module()', "model(torch.from_numpy(BATCH))"),
    ),
    "timm": Format(
        file=FILES["timm"],
        libraries=("timm",),
        write=write_timm,
        run=run_timm,
        library="timm",
        tolerance=TIMM_TOLERANCE,
        is_traced=False,
        others=(CONFIG,),
        example=(
            "timm",
            'timm.create_model("local-dir:.", pretrained=True).eval()',
            "model(transform(image)[None])",
        ),
    ),
}
"""Name of each format, as --format has it."""
