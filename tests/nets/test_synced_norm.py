"""The batch norms of several processes, here of one, as torch's; of several, see tests/methods/test_processes.py."""

import pytest
import timm
import torch
from torch import nn

from sslpipe.nets.synced_norm import SyncedBatchNorms, synced_batch_norms


def steps(layer, images, mode):
    """Outputs, gradients and state after two passes, the second one in eval mode."""
    x = images.clone().requires_grad_()
    with mode:
        first = layer.train()(x)
        second = layer.eval()(x)
    (first.double().square() * torch.arange(first.numel()).view_as(first)).mean().add(second.double().sum()).backward()
    return [first, second, x.grad, *(weight.grad for weight in layer.parameters()), *layer.state_dict().values()]


LAYERS = {
    "images": lambda: nn.BatchNorm2d(3),
    "rows": lambda: nn.BatchNorm1d(3, momentum=0.3),
    "without weights": lambda: nn.BatchNorm2d(3, affine=False),
    "without statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "mean of all batches": lambda: nn.BatchNorm2d(3, momentum=None),
    "with activation": lambda: timm.layers.BatchNormAct2d(3),
}


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_norm_is_torchs(name, kind):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((6, 3) if name == "rows" else (6, 3, 4, 5), generator=generator) * 2 + 1
    images = images.to(kind)
    layers = [LAYERS[name]() for _ in range(2)]
    if kind is torch.float64:
        layers = [layer.double() for layer in layers]
    modes = synced_batch_norms(), SyncedBatchNorms()
    expected, found = (steps(layer, images, mode) for layer, mode in zip(layers, modes, strict=True))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 2e-2}[kind]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_channels_last_is_kept():
    images = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    with SyncedBatchNorms():
        output = nn.BatchNorm2d(3)(images)
    assert output.is_contiguous(memory_format=torch.channels_last)
