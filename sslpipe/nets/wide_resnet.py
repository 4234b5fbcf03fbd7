"""Wide residual networks (Zagoruyko & Komodakis 2016) of MixMatch (arXiv:1905.02249) and FixMatch (arXiv:2001.07685).

They differ from the original networks as follows: leaky ReLU of slope 0.1, no dropout, and the 1×1 shortcut in the
first block of a group receives the block's input, except in the first group, where it receives the normalised and
activated input. Their batch norms have a momentum of 0.001 in FixMatch (BackboneSettings.batch_norm_momentum).

The depth counts all convolutions, including shortcuts: a stem, and in each group 4 blocks of 2 and a shortcut. Three
groups have 1 + 3·9 = 28. For STL-10's images of 96 px a fourth group of twice the width is added, which gives
1 + 4·9 = 37: the WRN-37-2 of ReMixMatch (arXiv:1911.09785), FixMatch and "Boosting SSL" (Lerner et al. 2020,
arXiv:2012.00504, section 4.1). It has 5.9 million parameters, as Zhou et al. 2020 also count (issue 34 of
google-research/fixmatch); the FixMatch paper's 23.8 million correspond to a width of about 4.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.nets.layers import Backbone, convolution, initialise
from sslpipe.nets.recompute import run_parts

SLOPE = 0.1
"""Slope of the leaky ReLU for negative inputs (FixMatch's public code)."""
BLOCKS_PER_GROUP = 4
STEM_WIDTH = 16


class _Activation(nn.Module):
    """A batch norm and a leaky ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width, H, W] to the same shape."""
        return F.leaky_relu(self.norm(x), SLOPE, inplace=True)


class _Block(nn.Module):
    """A pre-activation block: shortcut(x) + convolve(activate(convolve(activate(x))))."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, activate_shortcut: bool) -> None:
        super().__init__()
        self.activate = _Activation(inputs)
        self.residual = nn.Sequential(
            convolution(inputs, outputs, 3, stride),
            _Activation(outputs),
            convolution(outputs, outputs, 3),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = convolution(inputs, outputs, 1, stride)
        self.activate_shortcut = activate_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        activated = self.activate(x)
        residual: Tensor = self.residual(activated)
        shortcut: Tensor = self.shortcut(activated if self.activate_shortcut else x)
        return residual + shortcut


class WideResNet(Backbone):
    """A stem of 16 channels, groups of 4 blocks, and global average pooling; groups after the first halve the image."""

    def __init__(self, *, groups: int, widen: int, channels: int) -> None:
        """Build the network.

        groups: 3 for depth 28, 4 for depth 37. widen: group g (0-based) has width 16·widen·2^g. channels: number of
        image channels.
        """
        super().__init__()
        layers: list[nn.Module] = [convolution(channels, STEM_WIDTH, 3)]
        inputs = STEM_WIDTH
        for group in range(groups):
            outputs = STEM_WIDTH * widen * 2**group
            for place in range(BLOCKS_PER_GROUP):
                stride = 2 if group > 0 and place == 0 else 1
                layers.append(_Block(inputs, outputs, stride, activate_shortcut=group == 0 and place == 0))
                inputs = outputs
        layers.append(_Activation(inputs))
        self.layers = nn.Sequential(*layers)
        self.dimension = inputs
        initialise(self)

    def block_modules(self) -> Sequence[nn.Module]:
        """Return the blocks."""
        return [layer for layer in self.layers if isinstance(layer, _Block)]

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to features [B, dimension]."""
        return run_parts(self, self.layers, x).mean(dim=(2, 3))
