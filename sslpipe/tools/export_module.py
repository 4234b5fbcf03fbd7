"""The module that is exported, from uint8 images to probabilities, and the formats it is written to and read from.

The files contain no pickled objects: weights are raw tensors in ONNX and in torch's archive, and the example images of
the trace, the only pickled part of torch's archive, are left out.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.nn import functional as F

from sslpipe.io.files import write_bytes
from sslpipe.nets.heads import ClusterHeads, InstanceHead
from sslpipe.nets.network import Network
from sslpipe.nets.pixels_module import PixelsModule, out_of_place

INPUT = "images"
"""Name of the input."""
TRACED = 2
"""Batch size of the trace; torch would treat a batch size of 0 or 1 as a constant."""
LIMIT = 2_000_000_000
"""Maximum size in bytes of the weights within an ONNX file; protobuf allows 2^31 bytes, including the graph."""
About = Mapping[str, Any]
"""The content of an export's card that is known before the file is written."""
Forward = Callable[[Tensor], Tensor]
"""A function of uint8 images [B, C, H, W] to the output [B, K] or [B, D]."""


class ExportModule(PixelsModule):
    """A network from uint8 images [B, C, size, size] to probabilities [B, K], or to unit features [B, D]."""

    def __init__(self, network: Network, *, size: int, features: bool) -> None:
        """Share the modules of a network.

        size: side of the images, pixels. features: whether the output is the unit features instead of probabilities.
        """
        super().__init__(network, size=size)
        self.head: nn.Module = network.head
        if features:
            self.head = nn.Identity()
        elif isinstance(network.head, ClusterHeads):
            self.head = network.head.linear  # the only head
        elif isinstance(network.head, InstanceHead):
            self.head = network.head.classifier  # without the projection, which is not needed
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images [B, C, size, size] to float32 [B, K] or [B, D]."""
        output: Tensor = self.head(super().forward(images))
        return F.normalize(output, dim=1) if self.features else output.softmax(dim=1)


def reference(network: Network, *, features: bool) -> Forward:
    """Return the function of a network, in eval mode, that its export is compared with."""

    @torch.no_grad()
    def forward(images: Tensor) -> Tensor:
        pixels = images.float() / 255
        if features:
            return F.normalize(network.features(pixels), dim=1)
        logits: Tensor = network(pixels)
        return (logits[0] if isinstance(network.head, ClusterHeads) else logits).softmax(dim=1)

    return forward


def trace(network: Network, *, channels: int, size: int, features: bool) -> ExportedProgram:
    """Return the graph of a network, in eval mode, for any batch size; it contains no paths of source files."""
    module = ExportModule(network, size=size, features=features).eval().requires_grad_(False)
    out_of_place(module)
    images = torch.zeros(TRACED, channels, size, size, dtype=torch.uint8)
    options: dict[str, Any] = {"dynamic_shapes": ({0: Dim("batch")},)}
    try:
        program = torch.export.export(module, (images,), strict=False, **options)
    except (
        Exception
    ):  # such as for len() of a tensor, as in the vits' forward; the strict trace takes four times as long
        program = torch.export.export(module, (images,), strict=True, **options)
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def _write_onnx(program: ExportedProgram, path: Path, about: About) -> None:
    """Write an ONNX file; weights of more than LIMIT bytes are written to a separate file <name>.data."""
    written = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[INPUT],
        output_names=[about["output"]["name"]],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    assert written is not None
    model = written.model
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()  # debug information of the exporter, larger than the graph
    model.metadata_props.update({key: json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    written.save(path, external_data=sum(tensor.nbytes for tensor in program.state_dict.values()) > LIMIT)


def _run_onnx(path: Path) -> Forward:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()  # the default is the machine's cores, not the process's
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


def _write_torch(program: ExportedProgram, path: Path, about: About) -> None:
    program.example_inputs = None  # they would be pickled
    # Written to memory first: torch's own errors for a full disk do not say so.
    archive = BytesIO()
    torch.export.save(program, archive, extra_files={"card.json": json.dumps(about, ensure_ascii=False)})
    write_bytes(path, archive.getvalue())


def _run_torch(path: Path) -> Forward:
    return torch.no_grad()(torch.export.load(path).module())


@dataclass(frozen=True)
class Format:
    """A file format of exports."""

    file: str
    """Name of the file."""
    libraries: tuple[str, ...]
    """Libraries other than torch that are needed to write and to check the file."""
    write: Callable[[ExportedProgram, Path, About], None]
    """Writes a traced network and its card to a file."""
    run: Callable[[Path], Forward]
    """Returns the function in a file."""
    example: tuple[str, str, str]
    """Python code: the import, how to load the file, and the output for BATCH, a NumPy array."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the file, of the separate file for large weights, and of the card."""
        return self.file, f"{self.file}.data", f"{self.file}.json"


FORMATS = {
    "onnx": Format(
        file="model.onnx",
        libraries=("onnx", "onnxscript", "onnxruntime"),
        write=_write_onnx,
        run=_run_onnx,
        example=(
            "onnxruntime",
            'onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])',
            f'model.run(None, {{"{INPUT}": BATCH}})[0]',
        ),
    ),
    "torch": Format(
        file="model.pt2",
        libraries=(),
        write=_write_torch,
        run=_run_torch,
        example=("torch", 'torch.export.load("model.pt2").module()', "model(torch.from_numpy(BATCH))"),
    ),
}
