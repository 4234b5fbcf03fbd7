"""What all backbones share: the interface, the convolution without bias, the start values."""

from torch import nn


class Backbone(nn.Module):
    """Images [B, C, H, W], normalised, to features [B, dimension]."""

    dimension: int


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the image's size at stride 1; without bias, since a batch norm follows it."""
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def initialise(module: nn.Module) -> None:
    """Draw the convolutions anew, in the order of the modules, from torch's global generator.

    Convolutions: normal with variance 2 / (outputs × kernel area) (He et al. 2015, eq. 14; the same in the FixMatch
    family). Batch norms keep their scale 1 and shift 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
