"""Wide residual networks (Zagoruyko & Komodakis 2016) as MixMatch, FixMatch and their successors use them.

They differ from the paper's: leaky ReLU of slope 0.1, no dropout, and in each group's first block the 1×1 shortcut
sees the block's raw input, save in the first group, where it sees the normalised and activated one. The running
statistics of their batch norms move by 0.001 a step there (BackboneSettings.batch_norm_momentum).

Depth counts all convolutions, those of the shortcuts too: a stem, and in each group 4 blocks of 2 and a shortcut.
Three groups make 1 + 3·9 = 28. For STL-10's 96 px images a fourth group of twice the width is added, which makes
1 + 4·9 = 37: the WRN-37-2 of ReMixMatch, FixMatch and "Boosting SSL with unsupervised clustering" (section 4.1), 5.9
million parameters at width 2, as Zhou et al. 2020 count it too (google-research/fixmatch, issue 34, which also gives
the FixMatch paper's 23.8 million: that is about what width 4 makes).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.nets.layers import Backbone, convolution, initialise

SLOPE = 0.1
"""Of the leaky ReLU for negative inputs (FixMatch's code)."""
BLOCKS_PER_GROUP = 4
STEM_WIDTH = 16


class _Activation(nn.Module):
    """Batch norm, then leaky ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return F.leaky_relu(self.norm(x), SLOPE, inplace=True)


class _Block(nn.Module):
    """Pre-activation block: shortcut(x) + convolve(activate(convolve(activate(x))))."""

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
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        activated = self.activate(x)
        residual: Tensor = self.residual(activated)
        shortcut: Tensor = self.shortcut(activated if self.activate_shortcut else x)
        return residual + shortcut


class WideResNet(Backbone):
    """A 3×3 stem of 16 channels, groups of 4 blocks of which each but the first halves the image, and the mean."""

    def __init__(self, *, groups: int, widen: int, channels: int) -> None:
        """groups: 3 for depth 28, 4 for depth 37. widen: the group g (0-based) is 16·widen·2^g wide."""
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

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, dimension]."""
        features: Tensor = self.layers(x).mean(dim=(2, 3))
        return features
