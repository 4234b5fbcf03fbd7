"""A network's features by ONNX Runtime, which computes convolutions of published networks faster than torch on CPUs.

The network is traced for batches of one size, so that traces of networks with branches on the batch size are right too.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.nets.network import Network
from sslpipe.nets.pixels_module import PixelsModule, out_of_place

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
"""Libraries other than torch that are needed; those of the extra `export`."""
INPUT, OUTPUT = "images", "features"


def missing_libraries() -> list[str]:
    """Return the names of the libraries that are not installed."""
    return [name for name in LIBRARIES if find_spec(name) is None]


def onnx_forward(network: Network, *, channels: int, size: int, batch: int) -> Callable[[Tensor], Tensor]:
    """Return the function of uint8 images [B, channels, size, size] to features [B, D] by ONNX Runtime on the CPU.

    network: on the CPU, in eval mode. batch: maximum of B; fewer images are filled up to as many. It uses as many
    threads as torch. Raises errors of torch's exporter and of ONNX Runtime, of many kinds, for a network that they
    cannot represent.
    """
    module = PixelsModule(network, size=size).eval().requires_grad_(False)
    out_of_place(module)
    images = torch.zeros(batch, channels, size, size, dtype=torch.uint8)
    program = torch.export.export(module, (images,), strict=False)
    written = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    assert written is not None
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()  # the default is the machine's cores, not the process's
    content = written.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> Tensor:
        full = F.pad(images, (0, 0, 0, 0, 0, 0, 0, batch - len(images)))
        return torch.from_numpy(session.run(None, {INPUT: full.numpy()})[0])[: len(images)]

    return forward
