"""The module that is exported, from uint8 images to probabilities, and the files it is written to and read from.

The files contain no pickled objects: weights are raw tensors in ONNX and in torch's archive, and the example images of
the trace, the only pickled part of torch's archive, are left out.
"""

import json
from collections.abc import Callable, Mapping
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
TRACED_BATCH = 2
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
    images = torch.zeros(TRACED_BATCH, channels, size, size, dtype=torch.uint8)
    options: dict[str, Any] = {"dynamic_shapes": ({0: Dim("batch")},)}
    try:
        program = torch.export.export(module, (images,), strict=False, **options)
    except Exception:  # such as for len() of a tensor, as in the vits' forward
        program = torch.export.export(module, (images,), strict=True, **options)  # takes four times as long
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def write_onnx(program: ExportedProgram, path: Path, about: About) -> None:
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


def run_onnx(path: Path) -> Forward:
    """Return the function in an ONNX file."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()  # the default is the machine's cores, not the process's
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


def write_torch(program: ExportedProgram, path: Path, about: About) -> None:
    """Write an archive of torch.export."""
    program.example_inputs = None  # they would be pickled
    # Written to memory first: torch's own errors for a full disk do not say so.
    archive = BytesIO()
    torch.export.save(program, archive, extra_files={"card.json": json.dumps(about, ensure_ascii=False)})
    write_bytes(path, archive.getvalue())


def run_torch(path: Path) -> Forward:
    """Return the function in an archive of torch.export."""
    return torch.no_grad()(torch.export.load(path).module())
