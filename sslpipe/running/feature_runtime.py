"""What computes the features of the stage features: torch, or ONNX Runtime where it is faster."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.device import autocast
from sslpipe.data.store import Store
from sslpipe.io.console import info
from sslpipe.io.errors import UserError, one_line
from sslpipe.io.settings import Count
from sslpipe.nets.network import Network
from sslpipe.nets.onnx_forward import missing_libraries, onnx_forward

MANY = 1000
"""Number of images from which ONNX Runtime saves more than the trace takes: 5 s of CPU for tf_efficientnet_lite0, which
does 250 images a CPU second at 128 px by ONNX Runtime and 90 by torch (measured, one thread)."""
COMPARED = 8
"""Images on which both are compared (own choice)."""
AGREEMENT = 2.0**-11
"""Largest difference between both, as a share of a vector's largest value: float16's rounding."""
Forward = Callable[[Tensor], Tensor]
"""A function of uint8 images [B, C, H, W] to features [B, D], float32 on the CPU."""


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """The block `features`: how the features of all images are computed."""

    runtime: Literal["auto", "torch", "onnxruntime"] = "auto"
    """What computes the features. onnxruntime (extra `export`): on the CPU. auto: ONNX Runtime if it is installed and
    the device is the CPU, for a network of timm and at least 1,000 images, else torch."""
    batch: Count = 64
    """Images per forward (own choice: larger batches are no faster on a CPU). With another size the features may differ
    within float16's rounding. Larger: more memory."""


def choose_forward(
    settings: FeatureSettings, network: Network, store: Store, device: torch.device
) -> tuple[str, Forward]:
    """Return the name and version of what computes the features, and the function; the network is moved to `device`.

    If ONNX Runtime cannot represent the network, or does not agree with torch on a few images, torch computes the
    features, and a line says so. Raises UserError if ONNX Runtime is set and not installed.
    """
    by_torch = torch_forward(network, device)
    own = f"torch {torch.__version__}"
    missing, images = missing_libraries(), store.info.train + store.info.held_out + store.info.test
    wanted = settings.runtime == "onnxruntime"
    if wanted and missing:
        raise UserError(
            f"features.runtime: onnxruntime found, but {missing[0]} is not installed; install sslpipe[export], or set "
            "auto or torch"
        )
    is_faster = device.type == "cpu" and network.settings.name == "timm" and images >= MANY and not missing
    if not wanted and not (settings.runtime == "auto" and is_faster):
        return own, by_torch
    few = torch.from_numpy(np.array(store.images("train")[:COMPARED]))
    try:
        by_onnx = onnx_forward(network.cpu(), channels=store.info.channels, size=store.info.size, batch=settings.batch)
        found = by_onnx(few[: settings.batch])
    except Exception as error:  # the exporter and ONNX Runtime raise errors of many kinds
        info(f"features: ONNX Runtime cannot compute this network ({one_line(error)}); torch computes the features")
        return own, torch_forward(network, device)
    network.to(device)
    expected = by_torch(few[: settings.batch])
    difference = (found - expected).abs().amax(dim=1) / expected.abs().amax(dim=1).clamp_min(1e-30)
    if not (difference <= AGREEMENT).all():
        info(
            f"features: ONNX Runtime differs from torch by {float(difference.max()):.2g} of the largest value; torch "
            "computes the features"
        )
        return own, by_torch
    return f"onnxruntime {version('onnxruntime')}", by_onnx


def torch_forward(network: Network, device: torch.device) -> Forward:
    """Return the function of uint8 images to the features by torch on a device; the network is moved there."""
    # The memory format channels_last makes convolutions twice as fast on a CPU.
    network.to(memory_format=torch.channels_last).to(device).eval()

    @torch.inference_mode()
    def forward(images: Tensor) -> Tensor:
        with autocast(device):
            pixels = images.to(device).contiguous(memory_format=torch.channels_last)
            return network.features(pixels.float() / 255).float().cpu()

    return forward
