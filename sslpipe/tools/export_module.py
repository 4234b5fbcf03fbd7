"""A network as it is exported: uint8 images to probabilities, traced, written in a format, read back and run.

Weights are never pickle: an ONNX file keeps them as raw tensors, and so does torch's archive, whose only pickle are the
images that the network was traced with; they are left out.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.nn import functional as F

from sslpipe.nets.heads import ClusterHeads, InstanceHead
from sslpipe.nets.libraries import InputSettings
from sslpipe.nets.network import Network

INPUT = "images"
TRACED = 2
"""Images at the tracing; torch would take 0 or 1 of them for a number that is always the same."""
LIMIT = 2_000_000_000
"""Bytes of weights within an ONNX file; protobuf allows 2^31 in all, and the graph needs some."""
About = Mapping[str, Any]
"""The card's content as far as it is known before the file is written."""
Answer = Callable[[Tensor], Tensor]
"""From uint8 images [B, C, H, W] to the output [B, K] or [B, D]."""


class ExportModule(nn.Module):
    """A network from uint8 images [B, C, size, size] to probabilities [B, K], or to unit features [B, D].

    Unlike `Network` it is one straight line whatever the number of images. It resizes by two matrix products, which
    every runtime computes alike; antialiased interpolation is torch's own.
    """

    mean: Tensor
    std: Tensor
    resize: Tensor | None

    def __init__(self, network: Network, *, size: int, features: bool) -> None:
        """The network's modules are shared with it. size: side of the images, pixels. features: these, no answers."""
        super().__init__()
        self.backbone = network.backbone
        self.head: nn.Module = network.head
        if features:
            self.head = nn.Identity()
        elif isinstance(network.head, ClusterHeads):
            self.head = network.head.linear  # of its only head
        elif isinstance(network.head, InstanceHead):
            self.head = network.head.classifier  # without the projection, which answers nothing
        self.features = features
        self.overshoots = network.input is not None and network.input.interpolation == "bicubic"
        self.register_buffer("mean", network.mean)
        self.register_buffer("std", network.std)
        self.register_buffer("resize", resize_matrix(network.input, size) if network.input else None)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, C, size, size] to float32 [B, K] or [B, D]."""
        pixels = images.float() / 255
        if self.resize is not None:
            pixels = self.resize @ pixels @ self.resize.T  # [B, C, crop, crop]
            if self.overshoots:
                pixels = pixels.clamp(0, 1)
        output: Tensor = self.head(self.backbone((pixels - self.mean) / self.std))
        return F.normalize(output, dim=1) if self.features else output.softmax(dim=1)


def resize_matrix(settings: InputSettings, size: int) -> Tensor:
    """The matrix R [crop, size] with R X Rᵀ = `resize_and_crop` of a square X [size, size], before that clamps it.

    Interpolation is linear and treats rows and columns alike, so its weights are what it makes of the identity.
    """
    options: dict[str, Any] = {}
    if settings.interpolation != "nearest":
        options = {"mode": settings.interpolation, "antialias": True}
    rows = F.interpolate(torch.eye(size)[None, None], [settings.resize, size], **options)[0, 0]  # [resize, size]
    top = round((settings.resize - settings.crop) / 2)
    return rows[top : top + settings.crop].contiguous()


def original(network: Network, *, features: bool) -> Answer:
    """What the network itself, in eval mode, answers: what its export is compared with."""

    @torch.no_grad()
    def answer(images: Tensor) -> Tensor:
        pixels = images.float() / 255
        if features:
            return F.normalize(network.features(pixels), dim=1)
        logits: Tensor = network(pixels)
        return (logits[0] if isinstance(network.head, ClusterHeads) else logits).softmax(dim=1)

    return answer


def trace(network: Network, *, channels: int, size: int, features: bool) -> ExportedProgram:
    """The network, in eval mode, as a graph for any number of images; it does not tell where its source lies."""
    module = ExportModule(network, size=size, features=features).eval().requires_grad_(False)
    images = torch.zeros(TRACED, channels, size, size, dtype=torch.uint8)
    # strict: Python's len() of a tensor, as in the vits' forward, remains the number of images; else it is TRACED.
    program = torch.export.export(module, (images,), dynamic_shapes=({0: Dim("batch")},), strict=True)
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def _write_onnx(program: ExportedProgram, path: Path, about: About) -> None:
    """One file; weights above LIMIT lie beside it, in <name>.data."""
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
        node.metadata_props.clear()  # the exporter's notes for its own developers, longer than the graph
    model.metadata_props.update({key: json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    written.save(path, external_data=sum(tensor.nbytes for tensor in program.state_dict.values()) > LIMIT)


def _run_onnx(path: Path) -> Answer:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()  # by default as many as the machine has, not this process
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


def _write_torch(program: ExportedProgram, path: Path, about: About) -> None:
    program.example_inputs = None  # would be pickled
    torch.export.save(program, path, extra_files={"card.json": json.dumps(about, ensure_ascii=False)})


def _run_torch(path: Path) -> Answer:
    return torch.no_grad()(torch.export.load(path).module())


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    file: str
    """Its name."""
    libraries: tuple[str, ...]
    """What writing and checking it needs besides torch."""
    write: Callable[[ExportedProgram, Path, About], None]
    run: Callable[[Path], Answer]
    """Reads a file back."""
    example: tuple[str, str, str]
    """In Python: what to import; how to load it; the answer for BATCH, a numpy array."""

    @property
    def files(self) -> tuple[str, ...]:
        """The file, weights beside it where it cannot hold them, and its card."""
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
